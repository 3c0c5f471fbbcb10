"""Keep shards of remote datasets in a local folder of bounded size, which several processes share.

A shard has its name only when it is complete and its checksum right, so a download that was killed leaves nothing that
could be taken for a shard. All is coordinated by locks of the operating system, which end with their process: one for
each shard while it is fetched, one for the count of bytes, and a shared one on each tar that is in use, which keeps it
from being evicted. What is being fetched counts in full from its beginning.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from openwit.schemas.common.errors import StorageError
from openwit.schemas.common.locks import lock_file
from openwit.schemas.common.storage_faults import storage_faults
from openwit.schemas.manifest import FileEntry
from openwit.training.data.remote_reads import Store
from openwit.training.data.shard_file import ShardFile, index_of

_PART = ".part"
_LOCKS = ".locks"
_PAUSE_S = 0.02
PATIENCE_S = 600.0
"""That a batch waits for room: a process has a shard open while it reads a batch of it, or fetches it."""


@dataclass(frozen=True)
class CachedShard:
    """A shard of a store, and its name in the cache."""

    store: Store
    tar: FileEntry
    index: FileEntry
    name: str

    @property
    def bytes(self) -> int:
        """Bytes that it takes in the cache."""
        return self.tar.bytes + self.index.bytes


class ShardCache:
    """A folder of shards.

    Args:
        folder: of the cache; nothing else may lie in it.
        max_bytes: its bound, which always holds: a shard that finds no room waits for it.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        with storage_faults(folder):
            (folder / _LOCKS).mkdir(parents=True, exist_ok=True)

    def open(self, shard: CachedShard, keep: Callable[[], frozenset[str]], *, wanted: bool) -> ShardFile | None:
        """Open a shard, fetched first if it is not there; it is not evicted while it is open.

        Whoever has a shard open must not wait for another one: then all that do wait come to room.

        Args:
            shard: the shard.
            keep: returns names that are evicted last.
            wanted: it is needed now, and room is waited for; otherwise it is left out (None) where there is none.

        Raises:
            NetworkError, DataError: it cannot be fetched.
            StorageError: there was no room for minutes.
        """
        tar, index = self._paths(shard)
        until = time.monotonic() + PATIENCE_S
        with storage_faults(self.folder):
            while True:
                # Another process may evict it at any time until it is open; then it is fetched again.
                file = _held(tar)
                if file is not None and file.size == shard.tar.bytes and _is_complete(index, shard.index):
                    return file
                if file is not None:
                    file.close()
                with self._locked(shard.name):
                    there = _is_complete(tar, shard.tar) and _is_complete(index, shard.index)
                    if not there and self._make_room(shard, keep(), is_last=not wanted):
                        self._fetch(shard)
                        there = True
                if there:
                    continue
                if not wanted:
                    return None
                if time.monotonic() > until:
                    raise StorageError(
                        f"{self.folder} had no room for a shard of {shard.bytes:,} bytes for {PATIENCE_S:g} s: raise "
                        f"data.cache_bytes ({self._max_bytes:,}), or give each run a data.cache of its own"
                    )
                time.sleep(_PAUSE_S)

    def rows(self, shard: CachedShard) -> pa.Table:
        """Return the index of a shard that is open, in memory."""
        index = self._paths(shard)[1]
        return index_of(index.read_bytes(), str(index))

    def used(self) -> int:
        """Return the bytes in the folder, those of downloads in full."""
        return sum(state.st_size for _, state in self._files())

    def _paths(self, shard: CachedShard) -> tuple[Path, Path]:
        return self.folder / f"{shard.name}.tar", self.folder / f"{shard.name}.idx.arrow"

    def _fetch(self, shard: CachedShard) -> None:
        for target, file in zip(self._paths(shard)[::-1], (shard.index, shard.tar), strict=True):
            part = target.with_name(target.name + _PART)
            try:
                shard.store.copy(file, part)
                with self._locked("space"):  # whoever counts would find neither name
                    os.replace(part, target)
            except BaseException:
                for each in self._paths(shard):
                    each.with_name(each.name + _PART).unlink(missing_ok=True)
                raise

    def _make_room(self, shard: CachedShard, keep: frozenset[str], *, is_last: bool) -> bool:
        """Evict what was not used for longest until the shard fits; take its place by files of its size.

        Args:
            shard: the shard.
            keep: names that are evicted last.
            is_last: or not at all.
        """
        with self._locked("space"):
            for path in self._paths(shard):
                path.with_name(path.name + _PART).unlink(missing_ok=True)
            for kept in (keep,) if is_last else (keep, frozenset()):
                if self._evict(self.used() + shard.bytes - self._max_bytes, shard.name, kept):
                    break
            else:
                return False
            for path, file in zip(self._paths(shard), (shard.tar, shard.index), strict=True):
                with path.with_name(path.name + _PART).open("wb") as part:
                    part.truncate(file.bytes)
        return True

    def _evict(self, excess: int, own: str, keep: frozenset[str]) -> bool:
        files = sorted(self._files(), key=lambda found: found[1].st_mtime_ns) if excess > 0 else []
        for path, state in files:
            if excess <= 0:
                break
            name = path.name.removesuffix(_PART).removesuffix(".tar").removesuffix(".idx.arrow")
            if name == own:
                continue
            if path.name.endswith(_PART):
                excess -= state.st_size if self._remove_dead(path, name) else 0
            elif path.name.endswith(".tar") and name not in keep:
                excess -= self._remove(path, name)
        return excess <= 0

    def _remove(self, tar: Path, name: str) -> int:
        try:
            with tar.open("rb") as file:
                if not lock_file(file, wait=False):
                    return 0
                index = self.folder / f"{name}.idx.arrow"
                freed = tar.stat().st_size + (index.stat().st_size if index.is_file() else 0)
                tar.unlink()
                index.unlink(missing_ok=True)
                return freed
        except FileNotFoundError:
            return 0

    def _remove_dead(self, part: Path, name: str) -> bool:
        """Remove what a process that is gone had begun to fetch."""
        with (self.folder / _LOCKS / name).open("ab") as lock:
            if not lock_file(lock, wait=False):
                return False
            part.unlink(missing_ok=True)
            return True

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_file():
                        yield Path(entry.path), entry.stat()

    @contextmanager
    def _locked(self, name: str) -> Iterator[IO[Any]]:
        with (self.folder / _LOCKS / name).open("ab") as lock:
            lock_file(lock, wait=True)
            yield lock


def _is_complete(path: Path, file: FileEntry) -> bool:
    # A file gets its name only after it was fetched completely and its checksum was correct.
    try:
        return path.stat().st_size == file.bytes
    except FileNotFoundError:
        return False


def _held(tar: Path) -> ShardFile | None:
    """Open a tar with a shared lock; None if it is gone."""
    import fcntl  # not on Windows

    try:
        file = ShardFile(tar)
    except FileNotFoundError:
        return None
    fcntl.flock(file.fd, fcntl.LOCK_SH)
    try:
        if os.stat(tar).st_ino == os.fstat(file.fd).st_ino:
            os.utime(tar)
            return file
    except FileNotFoundError:
        pass
    file.close()
    return None

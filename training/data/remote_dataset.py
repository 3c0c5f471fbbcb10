"""A dataset of ours at a URL: its shards copied to a local folder before they are mapped.

The whole split must fit under the byte limit, and the copying comes before the first step; what is there already is
not copied again. In return training has everything that a local dataset has. A split that does not fit is streamed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from openwit.schemas.common.atomic import atomic_path, sha256_of
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.locks import lock_file
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, FileEntry
from openwit.training.data.sharded import ShardedDataset

_CHUNK = 1 << 22


def remote_manifest(url: str) -> DatasetManifest:
    """The manifest of a dataset at a URL.

    Raises:
        OpenWITError: it cannot be read, or is no manifest.
    """
    where = f"{url.rstrip('/')}/{MANIFEST_NAME}"
    try:
        with fsspec.open(where, "rb") as file:
            text: bytes = file.read()
    except Exception as error:  # fsspec's backends raise errors of their own
        raise OpenWITError(f"{where} cannot be read: {type(error).__name__}: {error}") from error
    return DatasetManifest.parse(text, where)


def cached_dataset(url: str, split: str, cache: Path, limit: int, say: Callable[[str], None]) -> ShardedDataset:
    """Copies what is missing of a split to `cache` and opens it there.

    Args:
        url: folder of the dataset.
        split: name of a split.
        cache: local folder, for this dataset alone; several processes may share it, one of them copies.
        limit: most bytes that the split may take.
        say: told what is done.

    Raises:
        OpenWITError: the split is larger than the limit, the folder holds another dataset, or a file cannot be copied
            or does not have the sum the manifest states.
    """
    manifest = remote_manifest(url)
    files = [file for shard in manifest.shards_of(split) for file in (shard.tar, shard.index)]
    total = sum(file.bytes for file in files)
    if total > limit:
        raise OpenWITError(
            f"split {split!r} of {url} holds {total:,} bytes, more than data.cache_bytes allows ({limit:,}): raise "
            "it, or leave data.cache out to stream the shards"
        )
    with _held(cache):
        if (cache / MANIFEST_NAME).is_file():
            if DatasetManifest.load(cache) != manifest:
                raise OpenWITError(f"data.cache {cache} holds another dataset than {url} is now: name another folder")
        else:
            manifest.save(cache)
        missing = [file for file in files if not _whole(cache, file)]
        if missing:
            say(f"copying {len(missing)} files, {sum(file.bytes for file in missing):,} bytes, from {url} to {cache}")
        for file in missing:
            _copy(f"{url.rstrip('/')}/{file.path}", cache / file.path, file)
    return ShardedDataset(cache, split)


def _whole(folder: Path, file: FileEntry) -> bool:
    # A file has its name only once it was copied whole and its sum was right.
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.bytes


def _copy(url: str, target: Path, file: FileEntry) -> None:
    try:
        with atomic_path(target) as temporary:
            with fsspec.open(url, "rb") as source, temporary.open("wb") as out:
                while chunk := source.read(_CHUNK):
                    out.write(chunk)
            if sha256_of(temporary) != file.sha256:
                raise OpenWITError(
                    f"{url} does not have the sum that its manifest states: run `wit verify` on the dataset"
                )
    except OpenWITError:
        raise
    except Exception as error:  # fsspec's backends raise errors of their own
        raise OpenWITError(f"{url} cannot be copied: {type(error).__name__}: {error}") from error


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """One process at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        lock_file(lock, wait=True)
        yield

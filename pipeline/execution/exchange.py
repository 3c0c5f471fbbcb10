"""Exchange keyed blobs between processes through files, for engines that have no shuffle of their own.

Each group of writers makes one file of blobs, sorted by stream and key, so that a reader of a key finds one range per
file. There are at most `MAX_GROUPS` files per step and as many groups of readers: the number of opened files is
bounded, and grows neither with the tasks nor with the keys.
"""

import math
import mmap
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import numpy as np

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.storage.reading import read_ranges
from openwit.schemas.common.storage.store_path import as_path, is_store

MAX_GROUPS = 256
_BUFFERED_BYTES = 64 << 20
_FOOTER_BYTES = 8
_INDEX = np.dtype([("stream", "<i8"), ("key", "<i8"), ("start", "<i8"), ("size", "<i8")])


def grouped(items: int) -> list[range]:
    """Split items into at most `MAX_GROUPS` groups of neighbours, by their number only."""
    size = max(math.ceil(items / MAX_GROUPS), 1)
    return [range(start, min(start + size, items)) for start in range(0, items, size)]


class Written(NamedTuple):
    """What a group of writers wrote.

    Attributes:
        path: of the file; "" if there were no blobs.
        bytes: size of the file.
        keys: by stream, ascending.
    """

    path: str
    bytes: int
    keys: dict[str, list[int]]


class BlobWriter:
    """Write the blobs of a group; a context manager that leaves a file of sorted blobs, whole or not at all.

    Args:
        target: the file.
        streams: names of the streams that may be written.
    """

    def __init__(self, target: Path, streams: Sequence[str]) -> None:
        self._target = target
        self._streams = {name: number for number, name in enumerate(sorted(streams))}
        self._entries: list[tuple[int, int, int, int]] = []
        self._blobs: list[bytes] = []
        self._buffered = 0
        self._position = 0
        self._spill: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, stream: str, key: int, blob: bytes) -> None:
        """Add a blob.

        Raises:
            KeyError: the stream was not declared.
        """
        self._entries.append((self._streams[stream], key, self._position, len(blob)))
        self._position += len(blob)
        self._blobs.append(blob)
        self._buffered += len(blob)
        if self._buffered > _BUFFERED_BYTES:
            self._flush()

    def written(self) -> Written:
        """Return what was written, after the block."""
        keys: dict[str, set[int]] = {name: set() for name in self._streams}
        names = list(self._streams)
        for stream, key, _, _ in self._entries:
            keys[names[stream]].add(key)
        size = self._position + len(self._entries) * _INDEX.itemsize + _FOOTER_BYTES if self._entries else 0
        return Written(str(self._target) if self._entries else "", size, {name: sorted(keys[name]) for name in keys})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._entries:
                self._finish()
        finally:
            if self._spill is not None:
                self._spill.close()
            self._blobs = []

    def _flush(self) -> None:
        if self._spill is None:
            here = None if is_store(self._target) else self._target.parent
            if here is not None:
                here.mkdir(parents=True, exist_ok=True)
            self._spill = tempfile.TemporaryFile(dir=here)  # noqa: SIM115 - closed at the end of the block
        self._spill.writelines(self._blobs)
        self._blobs, self._buffered = [], 0

    def _finish(self) -> None:
        index = np.array(self._entries, np.int64).reshape(-1, 4).copy().view(_INDEX).reshape(-1)
        order = np.lexsort((index["key"], index["stream"]))
        index = index[order]
        with atomic_path(self._target) as path, path.open("wb") as file:
            if self._spill is None:
                file.writelines(self._blobs[number] for number in order)
            else:
                self._flush()
                self._copy_sorted(index, file)
            index["start"] = np.concatenate(([0], np.cumsum(index["size"])[:-1]))
            file.write(index.tobytes())
            file.write(len(index).to_bytes(_FOOTER_BYTES, "little"))

    def _copy_sorted(self, index: np.ndarray, file: BinaryIO) -> None:
        assert self._spill is not None
        self._spill.flush()
        with mmap.mmap(self._spill.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            for start, size in zip(index["start"].tolist(), index["size"].tolist(), strict=True):
                file.write(view[start : start + size])


class BlobReader:
    """Read the blobs of keys from the files of all groups, one file at a time.

    Args:
        files: what each `BlobWriter` wrote, and its streams.
    """

    def __init__(self, files: Sequence[tuple[Written, Sequence[str]]]) -> None:
        self._files = [(written, sorted(streams)) for written, streams in files if written.path]
        self._indices: dict[str, np.ndarray] = {}

    def read(self, streams: Sequence[str], key: int) -> dict[str, list[bytes]]:
        """Return the blobs of a key by stream; every stream that was asked for, empty where the key has none."""
        found: dict[str, list[bytes]] = {name: [] for name in streams}
        for written, names in self._files:
            index = self._index(written)
            parts = {name: _entries(index, names.index(name), key) for name in streams if name in names}
            parts = {name: part for name, part in parts.items() if len(part)}
            if not parts:
                continue
            starts = [int(part["start"][0]) for part in parts.values()]
            sizes = [int(part["size"].sum()) for part in parts.values()]
            for (name, part), data in zip(
                parts.items(), read_ranges(as_path(written.path), starts, sizes), strict=True
            ):
                ends = np.cumsum(part["size"]).tolist()
                found[name] += [data[end - size : end] for end, size in zip(ends, part["size"].tolist(), strict=True)]
        return found

    def _index(self, written: Written) -> np.ndarray:
        known = self._indices.get(written.path)
        if known is None:
            path, end = as_path(written.path), written.bytes - _FOOTER_BYTES
            [footer] = read_ranges(path, [end], [_FOOTER_BYTES])
            size = int.from_bytes(footer, "little") * _INDEX.itemsize
            [data] = read_ranges(path, [end - size], [size])
            known = self._indices[written.path] = np.frombuffer(data, _INDEX)
        return known


def _entries(index: np.ndarray, stream: int, key: int) -> np.ndarray:
    """Return the entries of a key in a stream: their blobs lie one after the other."""
    first, last = np.searchsorted(index["stream"], [stream, stream + 1])
    begin, end = first + np.searchsorted(index["key"][first:last], [key, key + 1])
    return index[begin:end]

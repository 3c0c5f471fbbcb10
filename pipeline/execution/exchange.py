"""Exchange keyed blobs between processes through files, for engines that have no shuffle of their own.

Each group of writers makes one file of blobs, sorted by stream and key, so that a reader of a key finds one range per
file. There are at most `MAX_GROUPS` files per step and as many groups of readers: the number of opened files is
bounded, and grows neither with the tasks nor with the keys.
"""

import math
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import numpy as np

from openwit.schemas.common.atomic import atomic_path

MAX_GROUPS = 256
_BUFFERED_BYTES = 64 << 20
_INDEX = np.dtype([("stream", "<i8"), ("key", "<i8"), ("start", "<i8"), ("size", "<i8")])


def grouped(items: int) -> list[range]:
    """Split items into at most `MAX_GROUPS` groups of neighbours, by their number only."""
    size = max(math.ceil(items / MAX_GROUPS), 1)
    return [range(start, min(start + size, items)) for start in range(0, items, size)]


class Written(NamedTuple):
    """What a group of writers wrote.

    Attributes:
        path: of the file; "" if there were no blobs.
        keys: by stream, ascending.
    """

    path: str
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
        return Written(str(self._target) if self._entries else "", {name: sorted(keys[name]) for name in keys})

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
            self._target.parent.mkdir(parents=True, exist_ok=True)
            name = self._target.with_name(f".partial-{os.getpid()}-unsorted-{self._target.name}")
            self._spill = name.open("wb+")
            name.unlink()  # it ends with this process
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
            file.write(len(index).to_bytes(8, "little"))

    def _copy_sorted(self, index: np.ndarray, file: BinaryIO) -> None:
        assert self._spill is not None
        self._spill.flush()
        with mmap.mmap(self._spill.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            for start, size in zip(index["start"].tolist(), index["size"].tolist(), strict=True):
                file.write(view[start : start + size])


class BlobReader:
    """Read the blobs of keys from the files of all groups; files are opened one at a time.

    Args:
        paths: files of `BlobWriter`.
        streams: names of the streams of their writers, by file.
    """

    def __init__(self, files: Sequence[tuple[str, Sequence[str]]]) -> None:
        self._files = [(Path(path), sorted(streams)) for path, streams in files if path]
        self._indices: dict[Path, np.ndarray] = {}

    def read(self, streams: Sequence[str], keys: Sequence[int]) -> dict[int, dict[str, list[bytes]]]:
        """Return the blobs of some keys by stream; every stream that was asked for, empty where a key has none."""
        found: dict[int, dict[str, list[bytes]]] = {key: {name: [] for name in streams} for key in keys}
        for path, names in self._files:
            index = self._index(path)
            wanted = [(name, names.index(name)) for name in streams if name in names]
            with path.open("rb") as file:
                for name, stream in wanted:
                    for key in keys:
                        found[key][name] += _blobs(file, index, stream, key)
        return found

    def _index(self, path: Path) -> np.ndarray:
        if path not in self._indices:
            with path.open("rb") as file:
                file.seek(-8, os.SEEK_END)
                entries = int.from_bytes(file.read(8), "little")
                file.seek(-8 - entries * _INDEX.itemsize, os.SEEK_END)
                self._indices[path] = np.frombuffer(file.read(entries * _INDEX.itemsize), _INDEX)
        return self._indices[path]


def _blobs(file: BinaryIO, index: np.ndarray, stream: int, key: int) -> Iterator[bytes]:
    first = np.searchsorted(index["stream"], stream, "left")
    last = np.searchsorted(index["stream"], stream, "right")
    begin = first + np.searchsorted(index["key"][first:last], key, "left")
    end = first + np.searchsorted(index["key"][first:last], key, "right")
    if begin == end:
        return
    file.seek(int(index["start"][begin]))
    for size in index["size"][begin:end].tolist():
        yield file.read(size)

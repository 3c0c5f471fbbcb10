"""Exchange keyed blobs between processes through files, for engines that have no shuffle of their own.

Each group of writers makes one file of blobs, sorted by stream and key, so that a reader of a key finds one range per
file. There are at most `MAX_GROUPS` files per step and as many groups of readers: the number of opened files is
bounded, and grows neither with the tasks nor with the keys.
"""

import math
import mmap
import os
import tempfile
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import numpy as np

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.storage.store_path import as_path, is_store

MAX_GROUPS = 256
_BUFFERED_BYTES = 64 << 20
_READ_BYTES = 64 << 20
"""Blobs that a reader holds at a time; the blobs of one key are held together, whatever their size."""
_KEPT_ENTRIES = 1 << 18
"""Entries of directories that a reader keeps; beyond them it looks them up in the files."""
_BLOB = np.dtype([("stream", "<i8"), ("key", "<i8"), ("start", "<i8"), ("size", "<i8")])
# A file is: the blobs, sorted by stream and key; the size of each; a directory of entries; the number of entries, and
# that of blobs. `first` is the number of an entry's first blob.
_ENTRY = np.dtype([(name, "<i8") for name in ("stream", "key", "start", "bytes", "first", "blobs")])
_NUMBER = np.dtype("<i8")
_FOOTER_BYTES = 2 * _NUMBER.itemsize


def grouped(items: int) -> list[range]:
    """Split items into at most `MAX_GROUPS` groups of neighbours, by their number only."""
    size = max(math.ceil(items / MAX_GROUPS), 1)
    return [range(start, min(start + size, items)) for start in range(0, items, size)]


class Written(NamedTuple):
    """What a group of writers wrote.

    Attributes:
        path: of the file; "" if there were no blobs.
        keys: of the streams that have blobs, ascending: int64 (K,) each.
    """

    path: str
    keys: dict[str, np.ndarray]


class BlobWriter:
    """Write the blobs of a group; a context manager that leaves a file of sorted blobs, whole or not at all.

    Args:
        target: the file.
        streams: names of the streams that may be written.
    """

    def __init__(self, target: Path, streams: Sequence[str]) -> None:
        self._target = target
        self._streams = {name: number for number, name in enumerate(sorted(streams))}
        self._entries = array("q")  # stream, key, start and size of each blob
        self._written = Written("", {})
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
        self._entries.extend((self._streams[stream], key, self._position, len(blob)))
        self._position += len(blob)
        self._blobs.append(blob)
        self._buffered += len(blob)
        if self._buffered > _BUFFERED_BYTES:
            self._flush()

    def written(self) -> Written:
        """Return what was written, after the block."""
        return self._written

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
        blobs = np.frombuffer(self._entries, _BLOB)
        order = np.lexsort((blobs["key"], blobs["stream"]))
        blobs = blobs[order]
        with atomic_path(self._target) as path, path.open("wb") as file:
            if self._spill is None:
                file.writelines(self._blobs[number] for number in order)
            else:
                self._flush()
                self._copy_sorted(blobs, file)
            entries = _directory(blobs)
            file.write(np.ascontiguousarray(blobs["size"]).tobytes())
            file.write(entries.tobytes())
            file.write(np.array([len(entries), len(blobs)], _NUMBER).tobytes())
        keys = {name: entries["key"][entries["stream"] == number] for name, number in self._streams.items()}
        self._written = Written(str(self._target), {name: found for name, found in keys.items() if len(found)})

    def _copy_sorted(self, blobs: np.ndarray, file: BinaryIO) -> None:
        assert self._spill is not None
        self._spill.flush()
        with mmap.mmap(self._spill.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            for start, size in zip(blobs["start"].tolist(), blobs["size"].tolist(), strict=True):
                file.write(view[start : start + size])


def _directory(blobs: np.ndarray) -> np.ndarray:
    """Return the entries of sorted blobs, at least one, one per stream and key."""
    opens = np.flatnonzero(np.r_[True, (np.diff(blobs["stream"]) != 0) | (np.diff(blobs["key"]) != 0)])
    entries = np.zeros(len(opens), _ENTRY)
    entries["stream"], entries["key"] = blobs["stream"][opens], blobs["key"][opens]
    entries["first"], entries["blobs"] = opens, np.diff(np.r_[opens, len(blobs)])
    entries["bytes"] = np.add.reduceat(blobs["size"], opens)
    entries["start"] = np.cumsum(entries["bytes"]) - entries["bytes"]
    return entries


class BlobReader:
    """Read the blobs of keys from the files of all groups, one file at a time.

    Args:
        files: files of `BlobWriter`, each with the streams of its writer.
    """

    def __init__(self, files: Sequence[tuple[str, Sequence[str]]]) -> None:
        self._files = [(as_path(path), sorted(streams)) for path, streams in files if path]
        self._kept: dict[Path, np.ndarray] = {}
        self._kept_entries = 0

    def read(self, streams: Sequence[str], keys: Sequence[int]) -> Iterator[tuple[int, dict[str, list[bytes]]]]:
        """Yield each key with its blobs by stream; every stream that was asked for, empty where a key has none.

        Args:
            streams: their names.
            keys: ascending, and neighbours among the keys of these streams: what lies between them is read too.
        """
        located = [self._located(path, names, streams, keys) for path, names in self._files] if keys else []
        wanted, sizes = np.asarray(keys, np.int64), np.zeros(len(keys), np.int64)
        for entries in located:
            np.add.at(sizes, np.searchsorted(wanted, entries["key"]), entries["bytes"])
        for first, end in _batches(sizes):
            found: dict[int, dict[str, list[bytes]]] = {key: {name: [] for name in streams} for key in keys[first:end]}
            for (path, names), entries in zip(self._files, located, strict=True):
                here = entries
                if end - first < len(keys):
                    here = entries[(entries["key"] >= keys[first]) & (entries["key"] <= keys[end - 1])]
                if len(here):
                    with path.open("rb") as file:
                        for stream, key, start, size, number, blobs in here.tolist():
                            each = [size] if blobs == 1 else _Directory(file).sizes(number, blobs)
                            file.seek(start)
                            found[key][names[stream]] += [file.read(length) for length in each]
            for key in keys[first:end]:
                yield key, found.pop(key)

    def _located(self, path: Path, names: Sequence[str], streams: Sequence[str], keys: Sequence[int]) -> np.ndarray:
        """Return the entries of the streams in a file for keys from the first to the last."""
        wanted = [names.index(name) for name in streams if name in names]
        if path in self._kept:
            return _between(self._kept[path], wanted, keys)
        with path.open("rb") as file:
            directory = _Directory(file)
            if self._kept_entries + len(directory) <= _KEPT_ENTRIES:
                self._kept_entries += len(directory)
                self._kept[path] = directory.entries(0, len(directory))
                return _between(self._kept[path], wanted, keys)
            parts = [np.zeros(0, _ENTRY)]
            for stream in wanted:
                first = bisect_left(directory, (stream, keys[0]))
                parts.append(directory.entries(first, bisect_right(directory, (stream, keys[-1]), lo=first)))
            return np.concatenate(parts)


def _between(entries: np.ndarray, streams: Sequence[int], keys: Sequence[int]) -> np.ndarray:
    """Return the entries of some streams for keys from the first to the last."""
    parts = [np.zeros(0, _ENTRY)]
    for stream in streams:
        first, end = np.searchsorted(entries["stream"], (stream, stream + 1))
        mine = entries[first:end]
        parts.append(mine[slice(*np.searchsorted(mine["key"], (keys[0], keys[-1] + 1)))])
    return np.concatenate(parts)


def _batches(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield runs of keys with up to `_READ_BYTES` of blobs, at least one key each: first, and end."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        limit = ends[first] - sizes[first] + _READ_BYTES
        end = max(int(np.searchsorted(ends, limit, "right")), first + 1)
        yield first, end
        first = end


class _Directory:
    """The directory of an open file, a sequence of (stream, key); an entry is read when it is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        size = file.seek(0, os.SEEK_END)
        file.seek(size - _FOOTER_BYTES)
        self._entries: int
        self._entries, blobs = np.frombuffer(file.read(_FOOTER_BYTES), _NUMBER).tolist()
        self._start = size - _FOOTER_BYTES - self._entries * _ENTRY.itemsize
        self._sizes = self._start - blobs * _NUMBER.itemsize

    def __len__(self) -> int:
        return self._entries

    def __getitem__(self, number: int) -> tuple[int, int]:
        entry = self.entries(number, number + 1)[0]
        return int(entry["stream"]), int(entry["key"])

    def entries(self, first: int, end: int) -> np.ndarray:
        """Return a range of entries."""
        self._file.seek(self._start + first * _ENTRY.itemsize)
        return np.frombuffer(self._file.read((end - first) * _ENTRY.itemsize), _ENTRY)

    def sizes(self, first: int, blobs: int) -> list[int]:
        """Return the sizes of some blobs."""
        self._file.seek(self._sizes + first * _NUMBER.itemsize)
        sizes: list[int] = np.frombuffer(self._file.read(blobs * _NUMBER.itemsize), _NUMBER).tolist()
        return sizes

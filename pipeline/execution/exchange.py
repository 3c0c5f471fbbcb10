"""Exchange keyed blobs between processes through files, for engines that have no shuffle of their own.

Each group of writers makes one file of blobs, sorted by stream and key, so that a reader of a key finds one range per
file. There are at most `MAX_GROUPS` files per step and as many groups of readers: the number of opened files is
bounded, and grows neither with the tasks nor with the keys.
"""

import math
import mmap
import tempfile
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import numpy as np

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.storage.pieces import Piece, PieceReader
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
        size: of the file, bytes.
        keys: of the streams that have blobs, ascending: int64 (K,) each.
    """

    path: str
    size: int
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
        self._written = Written("", 0, {})
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
            size = file.tell()
        keys = {name: entries["key"][entries["stream"] == number] for name, number in self._streams.items()}
        self._written = Written(str(self._target), size, {name: found for name, found in keys.items() if len(found)})

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


class BlobFile(NamedTuple):
    """A file that `BlobWriter` wrote: its path, its size in bytes, and the streams of its writer."""

    path: str
    size: int
    streams: tuple[str, ...]


class BlobReader:
    """Read the blobs of keys from the files of all groups.

    Args:
        files: at least the files that have blobs of the streams that are read.
    """

    def __init__(self, files: Sequence[BlobFile]) -> None:
        self._files = [(as_path(file.path), file.size, sorted(file.streams)) for file in files if file.path]
        self._pieces = PieceReader({path: size for path, size, _ in self._files})
        self._layouts: dict[Path, _Layout] = {}
        self._kept: dict[Path, np.ndarray] = {}

    def read(self, streams: Sequence[str], keys: Sequence[int]) -> Iterator[tuple[int, dict[str, list[bytes]]]]:
        """Yield each key with its blobs by stream; every stream that was asked for, empty where a key has none.

        Args:
            streams: their names.
            keys: ascending, and neighbours among the keys of these streams: what lies between them is read too.
        """
        runs = self._runs(streams, keys) if keys else []
        wanted, sizes = np.asarray(keys, np.int64), np.zeros(len(keys), np.int64)
        for run in runs:
            np.add.at(sizes, np.searchsorted(wanted, run.entries["key"]), run.entries["bytes"])
        for first, end in _batches(sizes):
            found: dict[int, dict[str, list[bytes]]] = {key: {name: [] for name in streams} for key in keys[first:end]}
            here = [run.between(keys[first], keys[end - 1]) for run in runs]
            here = [run for run in here if len(run.entries)]
            read = self._pieces.read([piece for run in here for piece in (run.sizes(), run.blobs())])
            for run, lengths, blobs in zip(here, read[::2], read[1::2], strict=True):
                for key, parts in run.split(lengths, blobs):
                    found[key][run.stream] += parts
            for key in keys[first:end]:
                yield key, found.pop(key)

    def _runs(self, streams: Sequence[str], keys: Sequence[int]) -> list["_Run"]:
        """Return the entries of each file and stream for keys from the first to the last."""
        if not self._layouts:
            self._look()
        runs = []
        for path, _, names in self._files:
            layout = self._layouts[path]
            wanted = [(names.index(name), name) for name in streams if name in names]
            if path in self._kept:
                found = [_between(self._kept[path], number, keys) for number, _ in wanted]
            else:
                with path.open("rb") as file:
                    directory = _Directory(file, layout.directory, layout.entries)
                    found = [directory.between(number, keys) for number, _ in wanted]
            runs += [_Run(path, layout.sizes, name, part) for (_, name), part in zip(wanted, found, strict=True)]
        return [run for run in runs if len(run.entries)]

    def _look(self) -> None:
        """Read where the parts of each file are, and the directories of as many files as may be kept."""
        footers = self._pieces.read(
            [Piece(path, size - _FOOTER_BYTES, _FOOTER_BYTES) for path, size, _ in self._files]
        )
        pieces, kept = [], 0
        for (path, size, _), footer in zip(self._files, footers, strict=True):
            layout = _Layout.of(size, footer)
            self._layouts[path] = layout
            if kept + layout.entries <= _KEPT_ENTRIES:
                kept += layout.entries
                pieces.append(Piece(path, layout.directory, layout.entries * _ENTRY.itemsize))
        read = self._pieces.read(pieces)
        self._kept = {piece.path: np.frombuffer(part, _ENTRY) for piece, part in zip(pieces, read, strict=True)}


class _Layout(NamedTuple):
    """Where the sizes and the directory of a file begin, and the number of its entries."""

    sizes: int
    directory: int
    entries: int

    @classmethod
    def of(cls, size: int, footer: bytes) -> Self:
        entries, blobs = np.frombuffer(footer, _NUMBER).tolist()
        directory = size - _FOOTER_BYTES - entries * _ENTRY.itemsize
        return cls(directory - blobs * _NUMBER.itemsize, directory, entries)


@dataclass(frozen=True)
class _Run:
    """Entries of one stream in one file with neighbouring keys: their blobs lie one after another, as do the sizes."""

    path: Path
    sizes_start: int
    stream: str
    entries: np.ndarray

    def between(self, first: int, last: int) -> "_Run":
        """Return the part with keys from the first to the last."""
        start, end = np.searchsorted(self.entries["key"], (first, last + 1))
        return replace(self, entries=self.entries[start:end])

    def sizes(self) -> Piece:
        """Return where the sizes of the blobs are."""
        first, blobs = int(self.entries["first"][0]), int(self.entries["blobs"].sum())
        return Piece(self.path, self.sizes_start + first * _NUMBER.itemsize, blobs * _NUMBER.itemsize)

    def blobs(self) -> Piece:
        """Return where the blobs are."""
        return Piece(self.path, int(self.entries["start"][0]), int(self.entries["bytes"].sum()))

    def split(self, sizes: bytes, blobs: bytes) -> Iterator[tuple[int, list[bytes]]]:
        """Yield each key with its blobs."""
        ends = np.cumsum(np.frombuffer(sizes, _NUMBER)).tolist()
        start, number = 0, 0
        for key, count in zip(self.entries["key"].tolist(), self.entries["blobs"].tolist(), strict=True):
            parts = []
            for end in ends[number : number + count]:
                parts.append(blobs[start:end])
                start = end
            number += count
            yield key, parts


def _between(entries: np.ndarray, stream: int, keys: Sequence[int]) -> np.ndarray:
    """Return the entries of a stream for keys from the first to the last."""
    first, end = np.searchsorted(entries["stream"], (stream, stream + 1))
    mine = entries[first:end]
    return mine[slice(*np.searchsorted(mine["key"], (keys[0], keys[-1] + 1)))]


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

    def __init__(self, file: BinaryIO, start: int, entries: int) -> None:
        self._file, self._start, self._entries = file, start, entries

    def __len__(self) -> int:
        return self._entries

    def __getitem__(self, number: int) -> tuple[int, int]:
        entry = self._read(number, number + 1)[0]
        return int(entry["stream"]), int(entry["key"])

    def between(self, stream: int, keys: Sequence[int]) -> np.ndarray:
        """Return the entries of a stream for keys from the first to the last."""
        first = bisect_left(self, (stream, keys[0]))
        return self._read(first, bisect_right(self, (stream, keys[-1]), lo=first))

    def _read(self, first: int, end: int) -> np.ndarray:
        self._file.seek(self._start + first * _ENTRY.itemsize)
        return np.frombuffer(self._file.read((end - first) * _ENTRY.itemsize), _ENTRY)

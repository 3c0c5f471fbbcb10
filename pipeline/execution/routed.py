"""Route rows of tables through files, from groups of writers to numbered destinations.

A writer leaves one file of rows sorted by destination, with an index of all destinations at its end. A reader of a
destination takes from each file one entry of the index and the few rows that it names: neither the readers nor the
driver hold anything per (writer, destination). With one writer per group of `exchange.grouped`, a destination reads a
bounded number of files, however many there are on either side.

Layout: messages of Arrow IPC without their schema, each with the rows of some neighbouring destinations; an entry of
32 bytes per destination; the number of destinations.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import numpy as np
import pyarrow as pa

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import StorageError
from openwit.schemas.common.storage.reading import temporary_file

_RUN_BYTES = 64 << 20
"""Rows held in memory before they are sorted and put aside."""
_MERGE_ROWS = 32_768
# Fewer rows would make a message's own header of about 2 kB dominate, more would make readers read others' rows.
_MESSAGE_ROWS = 64
_ENTRY = np.dtype([("start", "<i8"), ("size", "<i8"), ("first", "<i8"), ("rows", "<i8")])
_COUNT_BYTES = 8


class _Run(NamedTuple):
    """Sorted rows: their destinations, and the rows themselves or where they are put aside."""

    destinations: np.ndarray
    rows: pa.RecordBatch | tuple[int, int]


class RoutedWriter:
    """Write rows for destinations; a context manager that leaves a sorted file, whole or not at all.

    The rows of a destination keep the order in which they were added. Memory is limited by `_RUN_BYTES`, by the rows
    of the largest destination, and by eight bytes per row.

    Args:
        target: the file.
        schema: of the rows.
        destinations: their number; a destination is a number below it.
    """

    def __init__(self, target: Path, schema: pa.Schema, destinations: int) -> None:
        self._target = target
        self._schema = schema
        self._destinations = destinations
        self._waiting: list[tuple[pa.Table, np.ndarray]] = []
        self._waiting_bytes = 0
        self._runs: list[_Run] = []
        self._aside: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, rows: pa.Table, destinations: np.ndarray) -> None:
        """Add rows.

        Args:
            rows: N rows of the schema.
            destinations: int array (N,).
        """
        if rows.num_rows == 0:
            return
        self._waiting.append((rows, destinations))
        self._waiting_bytes += rows.nbytes
        if self._waiting_bytes > _RUN_BYTES:
            self._end_run(aside=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._end_run(aside=False)
                with atomic_path(self._target) as path, path.open("wb") as file:
                    self._merge(file)
        finally:
            if self._aside is not None:
                self._aside.close()
            self._waiting, self._runs = [], []

    def _end_run(self, *, aside: bool) -> None:
        """Sort what waits; keep it in memory, or put it aside in a file that ends with this process."""
        if not self._waiting:
            return
        destinations = np.concatenate([numbers for _, numbers in self._waiting])
        rows = pa.concat_tables(rows for rows, _ in self._waiting)
        order = np.argsort(destinations, kind="stable")
        destinations, rows = destinations[order], rows.take(pa.array(order)).combine_chunks()
        self._waiting, self._waiting_bytes = [], 0
        first = 0
        for batch in rows.to_batches():
            mine = destinations[first : first + batch.num_rows]
            first += batch.num_rows
            self._runs.append(_Run(mine, self._put_aside(batch) if aside else batch))

    def _put_aside(self, batch: pa.RecordBatch) -> tuple[int, int]:
        if self._aside is None:
            self._aside = temporary_file(self._target)
        start = self._aside.tell()
        self._aside.write(batch.serialize())
        return start, self._aside.tell() - start

    def _merge(self, file: BinaryIO) -> None:
        counts = np.zeros(self._destinations, np.int64)
        for run in self._runs:
            counts += np.bincount(run.destinations, minlength=self._destinations)
        index = np.zeros(self._destinations, _ENTRY)
        index["rows"] = counts
        batches = self._batches()
        position = 0
        for first, end in _spans(counts):
            parts, numbers = [], []
            for run, batch in zip(self._runs, batches, strict=True):
                begin, stop = np.searchsorted(run.destinations, (first, end))
                if begin < stop:
                    parts.append(batch.slice(begin, stop - begin))
                    numbers.append(run.destinations[begin:stop])
            destinations = np.concatenate(numbers)
            order = np.argsort(destinations, kind="stable")
            rows = pa.Table.from_batches(parts).take(pa.array(order)).combine_chunks()
            position = _write_messages(file, position, rows, destinations[order], index)
        file.write(index.tobytes())
        file.write(self._destinations.to_bytes(_COUNT_BYTES, "little"))

    def _batches(self) -> list[pa.RecordBatch]:
        if self._aside is None:
            return [run.rows for run in self._runs]
        self._aside.flush()
        mapped = pa.py_buffer(mmap.mmap(self._aside.fileno(), 0, access=mmap.ACCESS_READ))
        return [
            pa.ipc.read_record_batch(mapped.slice(*run.rows), self._schema)
            if isinstance(run.rows, tuple)
            else run.rows
            for run in self._runs
        ]


def _spans(counts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield runs of destinations that have at least one row and about `_MERGE_ROWS` rows: first, and end."""
    ends = np.cumsum(counts)
    first, before, total = 0, 0, int(ends[-1]) if len(ends) else 0
    while before < total:
        whole = int(np.searchsorted(ends, before, "right")) + 1
        end = max(int(np.searchsorted(ends, before + _MERGE_ROWS, "right")), whole)
        yield first, end
        first, before = end, int(ends[end - 1])


def _write_messages(file: BinaryIO, position: int, rows: pa.Table, destinations: np.ndarray, index: np.ndarray) -> int:
    """Write sorted rows as messages, and fill in the index; return the position behind them."""
    found, at = np.unique(destinations, return_index=True)
    # A destination belongs to the message of the block of rows in which it begins.
    _, opens, message = np.unique(at // _MESSAGE_ROWS, return_index=True, return_inverse=True)
    begins = at[opens]
    starts, sizes = np.zeros(len(begins), np.int64), np.zeros(len(begins), np.int64)
    for number, (begin, end) in enumerate(zip(begins, [*begins[1:], rows.num_rows], strict=True)):
        starts[number] = position
        for batch in rows.slice(begin, end - begin).to_batches():
            position += file.write(batch.serialize())
        sizes[number] = position - starts[number]
    index["start"][found], index["size"][found] = starts[message], sizes[message]
    index["first"][found] = at - begins[message]
    return position


def read_routed(path: Path, schema: pa.Schema, destination: int) -> pa.Table:
    """Return the rows of a destination in a file of `RoutedWriter`.

    Raises:
        StorageError: the file is cut short.
    """
    with path.open("rb", buffering=0) as file:
        end = file.seek(0, os.SEEK_END) - _COUNT_BYTES
        count = int.from_bytes(read_range(file, path, end, _COUNT_BYTES), "little")
        at = end - (count - destination) * _ENTRY.itemsize
        entry = np.frombuffer(read_range(file, path, at, _ENTRY.itemsize), _ENTRY)[0]
        if not entry["rows"]:
            return schema.empty_table()
        data = pa.BufferReader(read_range(file, path, int(entry["start"]), int(entry["size"])))
    batches = []
    while data.tell() < entry["size"]:
        batches.append(pa.ipc.read_record_batch(pa.ipc.read_message(data), schema))
    return pa.Table.from_batches(batches).slice(entry["first"], entry["rows"])


def read_range(file: BinaryIO, path: Path, start: int, size: int) -> bytes:
    """Return a range of bytes of an open file.

    Raises:
        StorageError: the file ends before.
    """
    parts: list[bytes] = []
    file.seek(max(start, 0))
    while size > 0:
        data = file.read(size) if start >= 0 else b""
        if not data:
            raise StorageError(f"{path} is cut short: run the same command, which writes it anew")
        parts.append(data)
        size -= len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_all_routed(paths: Sequence[Path], schema: pa.Schema, destination: int) -> pa.Table:
    """Return the rows of a destination in several files, in their order; the files are opened one at a time."""
    return pa.concat_tables([schema.empty_table(), *(read_routed(path, schema, destination) for path in paths)])

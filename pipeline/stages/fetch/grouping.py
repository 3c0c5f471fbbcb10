"""Sort the selected pairs by chunk, in files of limited size, so that a fetch task reads only its own part.

Pairs lie in as many files as there were candidates files; were each fetch task to open them all, the work would grow
with files x tasks. They are sorted as a radix sort does: file tasks of limited memory and of at most `FAN_IN` open
files write files that each hold a range of chunks, in rounds, until no chunk is in more than `FAN_IN` files. Every
round reads and writes each pair once.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.execution.files import STAGE, checked
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.fetch.plan import FetchPlan, make_plan, places_of
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.table import Column, TableSchema
from openwit.schemas.tables.candidates import SELECTED

GROUPED_FOLDER = f"{STAGE}/grouped"
FAN_IN = 64
"""Files that a task opens."""
PART_PAIRS = 250_000
"""Pairs that a task of the first round sorts in memory."""
_ROW_GROUP = 2048
_PLACE_COLUMNS = ("url", "has_bytes", "archive", "record_offset")

GROUPED = TableSchema(
    "grouped",
    2,
    "Selected pairs on their way to fetch. Sorted by chunk, so that row group statistics locate one.",
    (*SELECTED.columns, Column("chunk", pa.int64(), "the chunk of fetch that the pair belongs to")),
)
_CHUNK_COLUMN = len(GROUPED.columns) - 1
"""Also its index among the leaves of a Parquet file: a list of numbers is one leaf."""


@dataclass(frozen=True)
class Piece:
    """Row groups [first, end) of a file."""

    path: str
    first: int
    end: int


@dataclass(frozen=True)
class Pieces:
    """What a task reads."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Part:
    """What a task of a later round reads: the chunks [first, end) of files of the round before."""

    files: tuple[str, ...]
    first: int
    end: int


@dataclass(frozen=True)
class Cell:
    """The files that hold the chunks [first, end), sorted by chunk."""

    first: int
    end: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class RowGroups:
    """The rows of each row group of each file of a task, for the driver."""

    rows: list[list[int]]


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a file of pairs: the one place where they are opened."""
    return pq.ParquetFile(cached(path))


def plan_fetch(
    job: Job, home: Path, selected: Sequence[Path], *, task: int, chunk: int
) -> tuple[FetchPlan, list[Pieces]]:
    """Count the pairs of each host bucket, and plan the tasks of fetch and those of the first round.

    Args:
        home: folder of the grouping.
        selected: files of `SELECTED`.
        task, chunk: see `make_plan`.
    """
    folder = home / "counts"
    groups = _batches([str(path) for path in selected], FAN_IN)
    tasks = [Task(n, f"{n:05d}", Pieces(tuple(Piece(path, 0, 0) for path in group))) for n, group in enumerate(groups)]
    counts = np.zeros(0, np.int64)
    pieces: list[tuple[Piece, int]] = []
    for result in job.run(folder, tasks, "Count pairs by host", "pairs", CountPairs()):
        counts = _sum(counts, np.load(cached(folder / f"{result.task}.npy")))
        for path, sizes in zip(groups[int(result.task)], result.extra_as(RowGroups).rows, strict=True):
            pieces += _cut(path, sizes)
    return make_plan(counts, task=task, chunk=chunk), _first_round(pieces)


def group_pairs(job: Job, home: Path, plan: FetchPlan, first_round: Sequence[Pieces]) -> list[Cell]:
    """Write the selected pairs sorted by chunk.

    Returns:
        Cells that hold all chunks in order, each in at most `FAN_IN` files.
    """
    names = [f"0-{n:06d}" for n in range(len(first_round))]
    sort_tasks = [Task(n, name, pieces) for n, (name, pieces) in enumerate(zip(names, first_round, strict=True))]
    job.run(home, sort_tasks, "Group pairs by host", "pairs", SortPieces(plan))
    cells = [Cell(0, plan.end, tuple(str(home / f"{name}.parquet") for name in names))]
    level = 1
    while any(len(cell.files) > FAN_IN for cell in cells):
        tasks: list[Task[Part]] = []
        cells = [part for cell in cells for part in _split(cell, home, level, tasks)]
        job.run(home, tasks, f"Group pairs by host, round {level + 1}", "pairs", MergeParts())
        level += 1
    return cells


class CountPairs(FileTask[Pieces]):
    """Count the pairs of each host bucket in whole files."""

    def run(self, task: Task[Pieces], folder: Path, stats: TaskStats) -> list[Path]:
        """See the class."""
        counts, rows = np.zeros(0, np.int64), []
        for piece in task.payload.pieces:
            file = open_parquet(checked(as_path(piece.path)))
            rows.append([file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)])
            buckets = file.read(columns=["host_bucket"]).column("host_bucket").to_numpy()
            counts = _sum(counts, np.bincount(buckets).astype(np.int64))
            stats.tick(sum(map(sum, rows)), len(rows) / len(task.payload.pieces))
        stats.extra = RowGroups(rows)
        target = folder / f"{task.name}.npy"
        with atomic_path(target) as path, path.open("wb") as opened:
            np.save(opened, counts)
        return [target]


class SortPieces(FileTask[Pieces]):
    """Write row groups of selected files as one file sorted by chunk."""

    def __init__(self, plan: FetchPlan) -> None:
        self.plan = plan

    def run(self, task: Task[Pieces], folder: Path, stats: TaskStats) -> list[Path]:
        """See the class."""
        tables = []
        for piece in task.payload.pieces:
            file = open_parquet(as_path(piece.path))
            tables.append(SELECTED.conform(file.read_row_groups(list(range(piece.first, piece.end))), piece.path))
        table = pa.concat_tables([SELECTED.empty(), *tables])
        chunks = self.plan.chunks_of(
            table.column("host_bucket").to_numpy().astype(np.int64),
            places_of([table.column(name).to_pylist() for name in _PLACE_COLUMNS]),
        )
        stats.tick(table.num_rows, 1.0)
        return [_write_sorted(folder, task.name, table.append_column("chunk", pa.array(chunks, pa.int64())))]


class MergeParts(FileTask[Part]):
    """Write a range of chunks of several sorted files as one sorted file."""

    def run(self, task: Task[Part], folder: Path, stats: TaskStats) -> list[Path]:
        """See the class."""
        part = task.payload
        tables = [table for path in part.files for table in _Cursor(path, part.first, part.end).rest()]
        table = pa.concat_tables([GROUPED.empty(), *tables])
        stats.tick(table.num_rows, 1.0)
        return [_write_sorted(folder, task.name, table)]


class ChunkReader:
    """Read the pairs of chunks in ascending order, a row group of each file in memory at a time.

    Args:
        cells: that hold the chunks.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self._at = -1
        self._cursors: list[_Cursor] = []

    def read(self, chunk: int) -> pa.Table:
        """Return the pairs of a chunk, in no particular order; chunks are read in ascending order."""
        while self._at < 0 or self._cells[self._at].end <= chunk:
            self._at += 1
            cell = self._cells[self._at]
            # Files are opened for the first chunk that is wanted of them.
            self._cursors = [_Cursor(path, chunk, cell.end) for path in cell.files] if chunk < cell.end else []
        tables = [table for cursor in self._cursors for table in cursor.read(chunk)]
        return pa.concat_tables([GROUPED.empty(), *tables])


def some_urls(cells: Iterable[Cell], outside: range, row_groups: int) -> Iterator[list[str]]:
    """Yield URLs of other chunks that must be downloaded, by row group, of a limited number of row groups.

    Args:
        outside: chunks that are left out.
    """
    left = row_groups
    for cell in cells:
        for path in cell.files:
            file = open_parquet(as_path(path))
            for number in range(file.num_row_groups):
                low, high = _range_of(file, number)
                if outside.start <= low and high < outside.stop:
                    continue
                if not left:
                    return
                left -= 1
                rows = file.read_row_group(number, columns=["url", "has_bytes", "chunk"]).to_pylist()
                yield sorted(row["url"] for row in rows if row["chunk"] not in outside and not row["has_bytes"])


class _Cursor:
    """A position in a sorted file, from chunk `first` to before `end`."""

    def __init__(self, path: str, first: int, end: int) -> None:
        self._file = open_parquet(as_path(path))
        self._path = path
        self._end = end
        ranges = [(*_range_of(self._file, number), number) for number in range(self._file.num_row_groups)]
        self._groups = [(low, high, number) for low, high, number in ranges if high >= first and low < end]
        self._at = 0
        self._first = first
        self._table: pa.Table | None = None
        self._chunks = np.zeros(0, np.int64)

    def read(self, chunk: int) -> list[pa.Table]:
        """Return the pairs of a chunk; chunks are asked for in ascending order."""
        return self._between(chunk, chunk + 1)

    def rest(self) -> list[pa.Table]:
        """Return the pairs of all chunks from the first to the end."""
        return self._between(self._first, self._end)

    def _between(self, first: int, end: int) -> list[pa.Table]:
        found = []
        while self._at < len(self._groups):
            low, high, number = self._groups[self._at]
            if low >= end:
                break
            if high >= first:
                if self._table is None:
                    self._table = GROUPED.conform(self._file.read_row_group(number), self._path)
                    self._chunks = self._table.column("chunk").to_numpy()
                start, stop = np.searchsorted(self._chunks, [first, end]).tolist()
                found.append(self._table.slice(start, stop - start))
            if high >= end:
                break
            self._at, self._table = self._at + 1, None
        return found


def _range_of(file: pq.ParquetFile, number: int) -> tuple[int, int]:
    statistics = file.metadata.row_group(number).column(_CHUNK_COLUMN).statistics
    return statistics.min, statistics.max


def _write_sorted(folder: Path, name: str, table: pa.Table) -> Path:
    target = folder / f"{name}.parquet"
    order = np.argsort(table.column("chunk").to_numpy(), kind="stable")
    GROUPED.write(target, table.take(pa.array(order)), row_group_size=_ROW_GROUP)
    return target


def _sum(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    long, short = (one, other) if len(one) >= len(other) else (other, one)
    total = long.copy()
    total[: len(short)] += short
    return total


def _cut(path: str, sizes: list[int]) -> list[tuple[Piece, int]]:
    """Cut a file into pieces of at most `PART_PAIRS` pairs, as far as its row groups allow."""
    pieces, first, rows = [], 0, 0
    for number, size in enumerate(sizes):
        if rows and rows + size > PART_PAIRS:
            pieces.append((Piece(path, first, number), rows))
            first, rows = number, 0
        rows += size
    return [*pieces, (Piece(path, first, len(sizes)), rows)] if rows else pieces


def _first_round(pieces: Sequence[tuple[Piece, int]]) -> list[Pieces]:
    groups: list[list[Piece]] = []
    rows = 0
    for piece, size in pieces:
        if not groups or rows + size > PART_PAIRS or len(groups[-1]) == FAN_IN:
            groups.append([])
            rows = 0
        groups[-1].append(piece)
        rows += size
    return [Pieces(tuple(group)) for group in groups]


def _split(cell: Cell, home: Path, level: int, tasks: list[Task[Part]]) -> list[Cell]:
    """Split the chunks of a cell with too many files, and append the tasks that write the new files."""
    if len(cell.files) <= FAN_IN:
        return [cell]
    parts = min(FAN_IN, cell.end - cell.first)
    bounds = [cell.first + (cell.end - cell.first) * n // parts for n in range(parts + 1)]
    cells = []
    for first, end in itertools.pairwise(bounds):
        files = []
        for batch in _batches(cell.files, FAN_IN):
            name = f"{level}-{len(tasks):06d}"
            tasks.append(Task(len(tasks), name, Part(tuple(batch), first, end)))
            files.append(str(home / f"{name}.parquet"))
        cells.append(Cell(first, end, tuple(files)))
    return cells


def _batches(items: Sequence[str], size: int) -> list[Sequence[str]]:
    return [items[at : at + size] for at in range(0, len(items), size)]

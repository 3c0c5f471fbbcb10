"""Match every text of tables with a query list, in batches on all cores, and write the queries of each row."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.execution.engine import default_workers
from openwit.pipeline.readers.inputs import expand_inputs
from openwit.pipeline.readers.tables.batches import TableBatch
from openwit.pipeline.readers.tables.files import is_table_name
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.tables import open_table
from openwit.pipeline.stages.queries import QueriesPaths
from openwit.pipeline.stages.queries.sources import read_query_table
from openwit.pipeline.stages.select.shared_matcher import compile_matcher
from openwit.pipeline.text.matching.entry_counts import check_name, read_entry_counts, write_entry_counts
from openwit.pipeline.text.matching.matcher import Matcher
from openwit.pipeline.text.matching.settings import MatchMode
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.storage.remote import local_copy
from openwit.schemas.common.storage.store_path import as_path, is_store
from openwit.schemas.tables.queries import MATCH_NOTE, QUERIES

FORMATS = ("parquet", "jsonl")
_AHEAD = 2  # batches a thread

ROW_MATCHES = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("key", pa.string()),
        pa.field("query_ids", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
    ]
)
"""What is written: the table, the row's number from 0, its key if the table has one, and the queries in its texts."""


@dataclass(frozen=True)
class MatchReport:
    """What was matched.

    Attributes:
        rows, texts: that were read; a row may have several texts.
        matched: rows with a query.
        matches: queries in texts, each once per text.
        queries: length of the list.
        found: queries that occur.
        lost: what could not be read, by reason.
    """

    rows: int
    texts: int
    matched: int
    matches: int
    queries: int
    found: int
    lost: dict[str, int]


def read_queries(location: str | Path, mode: MatchMode) -> list[str]:
    """Return a query list, whose positions are the ids: a file as `queries.tables` takes it, or a folder of ours.

    Raises:
        DataError: it cannot be read, or is empty.
        RecipeError: it was made for the other way of matching.
    """
    path = as_path(location)
    path = QueriesPaths(path).queries if path.is_dir() else path
    if path.suffix.lower() == ".parquet":
        notes = QUERIES.notes(path) if path.exists() else None
        made_for = None if notes is None else notes.get(MATCH_NOTE, "words")
        if made_for is not None and made_for != mode:
            raise RecipeError(f"{path} was made for matching {made_for!r}: match it so (--match {made_for})")
    if is_store(path):
        with local_copy(str(path)) as copy:
            queries = read_query_table(Path(copy))
    else:
        queries = read_query_table(path)
    if not queries:
        raise DataError(f"{path} holds no queries")
    return queries


def match_tables(
    tables: Sequence[str],
    queries: str | Path,
    out: str | Path,
    *,
    mode: MatchMode = "words",
    columns: TableColumns | None = None,
    form: str = "parquet",
    counts: str | Path | None = None,
    earlier_counts: str | Path | None = None,
    threads: int | None = None,
    on_rows: Callable[[int], None] = lambda _: None,
) -> MatchReport:
    """Match the texts of tables; see `openwit.match`.

    Raises:
        RecipeError: an option is wrong.
        DataError: an input cannot be read.
    """
    columns = columns or TableColumns()
    target = as_path(out)
    if form not in FORMATS:
        raise RecipeError(f"matches are written as {' or '.join(FORMATS)}, not as {form!r}")
    files = expand_inputs(tables, "match", wanted=is_table_name)
    read = dict.fromkeys([*tables, *files], "one of the tables that are read")
    _refuse_overwriting({"out": out, "counts": counts}, {**read, str(queries): "the query list that is read"})
    listed = read_queries(queries, mode)
    total = np.zeros(len(listed), np.int64)
    if counts is not None:
        check_name(as_path(counts))
    if earlier_counts is not None:
        total += read_entry_counts(as_path(earlier_counts), listed)
    before = total.copy()
    compile_matcher(mode)
    matcher = Matcher(listed, mode)
    lost = ReasonCounter()
    rows = texts = matched = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as path, _writer(path, form) as write:
        for part, found in _matched(files, matcher, columns, lost, threads or default_workers()):
            write(part)
            rows += part.num_rows
            texts += found.texts
            matched += int(np.count_nonzero(np.diff(part.column("query_ids").offsets.to_numpy())))
            total += np.bincount(found.ids, minlength=len(total))
            on_rows(rows)
    if counts is not None:
        write_entry_counts(as_path(counts), listed, total)
    here = total - before
    return MatchReport(
        rows, texts, matched, int(here.sum()), len(listed), int(np.count_nonzero(here)), dict(lost.counts)
    )


def _refuse_overwriting(written: Mapping[str, str | Path | None], read: Mapping[str, str]) -> None:
    """Refuse to write a file over one that is read, or two files to one place, however their paths are spelled.

    Raises:
        RecipeError: it would be.
    """
    taken = {_resolved(path): what for path, what in read.items()}
    for option, path in written.items():
        if path is None:
            continue
        place = _resolved(path)
        if place in taken:
            raise RecipeError(f"{path} is {taken[place]}: give {option} another name")
        taken[place] = f"named by {option} too"


def _resolved(path: str | Path) -> Path:
    named = as_path(path)
    return named if is_store(named) else named.resolve()


@dataclass(frozen=True)
class _Found:
    texts: int
    ids: np.ndarray  # of each text, for the counts


def _matched(
    files: Sequence[str], matcher: Matcher, columns: TableColumns, lost: ReasonCounter, threads: int
) -> Iterator[tuple[pa.RecordBatch, _Found]]:
    """Yield matched batches in order, a few of them ahead in other threads, which the matcher lets run."""

    def batches() -> Iterator[tuple[str, TableBatch]]:
        for name in files:
            for batch in open_table(name, columns, count=lost, images_required=False).batches():
                yield name, batch

    source = batches()
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[tuple[pa.RecordBatch, _Found]]] = deque()
        for each in islice(source, _AHEAD * threads):
            ahead.append(pool.submit(_match, matcher, *each))
        while ahead:
            done = ahead.popleft()
            ahead.extend(pool.submit(_match, matcher, *each) for each in islice(source, 1))
            yield done.result()


def _match(matcher: Matcher, name: str, batch: TableBatch) -> tuple[pa.RecordBatch, _Found]:
    ends = batch.texts.offsets.to_numpy()
    flat = batch.texts.values.slice(int(ends[0]), int(ends[-1] - ends[0]))
    lists = matcher.match(flat)
    ids = lists.values.to_numpy()
    rows = len(batch)
    per_text = np.diff(lists.offsets.to_numpy())
    row_of_text = np.repeat(np.arange(rows), np.diff(ends))
    row_of_id = np.repeat(row_of_text, per_text)
    ordered = ids
    if len(flat) and np.diff(ends).max() > 1:  # a query that several texts of a row have is named once
        pairs = np.unique(row_of_id.astype(np.int64) << 32 | ids)
        row_of_id, ordered = pairs >> 32, (pairs & 0xFFFFFFFF).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row_of_id, minlength=rows))]).astype(np.int32)
    columns = [
        pa.array([name] * rows, pa.string()),
        pa.array(np.arange(batch.first_row, batch.first_row + rows)),
        pa.nulls(rows, pa.string()) if batch.key is None else batch.key,
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(ordered, pa.int32()), type=ROW_MATCHES.field(3).type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ROW_MATCHES), _Found(len(flat), ids)


@contextmanager
def _writer(path: Path, form: str) -> Iterator[Callable[[pa.RecordBatch], Any]]:
    """Yield what writes batches to a Parquet file, or as lines of JSON."""
    if form == "parquet":
        with pq.ParquetWriter(str(path), ROW_MATCHES, compression="zstd") as file:
            yield file.write_batch
        return
    encoder = msgspec.json.Encoder()
    with open(path, "wb") as lines:
        yield lambda batch: lines.write(encoder.encode_lines(batch.to_pylist()))

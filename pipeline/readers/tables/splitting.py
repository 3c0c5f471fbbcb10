"""Divide a large table into parts that are read on their own, with the same rows and row numbers as the whole.

Parquet is divided by rows, and between row groups where these are small. A text table is looked through once, from
beginning to end, for places where a row begins, and its rows are counted with the reader that reads them later.
"""

import codecs
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from openwit.pipeline.common.counting import ignore
from openwit.pipeline.common.ranges import open_ranges
from openwit.pipeline.readers.tables.files import BROKEN_LINE, DAMAGED_ROWS, format_of
from openwit.pipeline.readers.tables.row_starts import RowStart, row_starts
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.sound_text import TextDecoder
from openwit.pipeline.readers.tables.table_ranges import RowRange, TextFacts, TextRange
from openwit.pipeline.readers.tables.tables import open_table, text_facts
from openwit.pipeline.readers.tables.text_tables import (
    NEVER_CLOSED,
    count_json_rows,
    csv_batches,
    jsonl_batches,
)

COMPRESSED = "compressed table"
ONE_ROW = "one-row table"

_CHUNK_BYTES = 1 << 18
_MOST_CUTS = 16
"""Parts of one row group: each part reads the row group from its beginning."""

Tick = Callable[[int], None]


def edges(size: int, part_bytes: int) -> list[int]:
    """Return where the parts of `size` bytes begin, apart from the first, before they are moved to a row or record."""
    parts = -(-size // part_bytes)
    return [size * number // parts for number in range(1, parts)]


def parquet_ranges(sizes: Sequence[tuple[int, int]], part_bytes: int) -> list[RowRange]:
    """Divide a Parquet table into parts of about `part_bytes`.

    Args:
        sizes: rows and bytes of each row group.
        part_bytes: row groups of twice as much are divided themselves.
    """
    row_ends = np.cumsum([0, *(rows for rows, _ in sizes)])
    byte_ends = np.cumsum([0, *(size for _, size in sizes)])
    borders = {0, int(row_ends[-1])}
    for edge in edges(int(byte_ends[-1]), part_bytes):
        borders.add(int(row_ends[np.argmin(np.abs(byte_ends - edge))]))
    for first, (rows, size) in zip(row_ends, sizes, strict=False):
        cuts = min(size // part_bytes, _MOST_CUTS, rows)
        if cuts > 1:
            borders.update(int(first) + rows * number // cuts for number in range(cuts + 1))
    ordered = sorted(borders)
    return [RowRange(first, end) for first, end in pairwise(ordered)]


def text_ranges(
    path: str | Path, columns: TableColumns, part_bytes: int, *, tick: Tick, source: str | None = None
) -> list[TextRange]:
    """Divide a text table that is not compressed into parts of about `part_bytes`.

    Args:
        path: a local file.
        columns: as for `open_table`.
        part_bytes: of the file.
        tick: called with the number of rows seen so far.
        source: as for `open_table`.

    Raises:
        DataError: as `open_table`.
    """
    name = str(path)
    facts = text_facts(name, columns)
    light = open_table(name, columns, source=source, texts_required=False).columns.light()
    size = Path(name).stat().st_size
    starts = _starts_at(name, facts, size, part_bytes)
    if not starts:
        return []
    facts = replace(facts, columns=starts[-1].columns, codec=_codec(name, columns, facts, light))
    found: list[TextRange] = []
    row = records = 0
    ends = [*(start.offset for start in starts), size]
    for first, end in zip([RowStart(0, 0, 0), *starts], ends, strict=True):
        part = TextRange(first.offset, end, row, first.lines, records, facts)
        found.append(part)
        if end == size:
            break
        rows, dropped, is_damaged = _count_rows(name, part, columns, light)
        if is_damaged:  # the rest of the file is lost, too
            found[-1] = replace(part, end=size)
            break
        row += rows
        records += rows + dropped + (part.is_first and not columns.names)
        tick(row)
    return found


def _starts_at(name: str, facts: TextFacts, size: int, part_bytes: int) -> list[RowStart]:
    """Return the first place after each edge where a row begins, each once."""
    kind, _ = format_of(name)
    found: list[RowStart] = []
    wanted = edges(size, part_bytes)
    at = 0
    with open_ranges(name) as file:
        for start in row_starts(file, kind, facts.layout, chunk_bytes=min(part_bytes, _CHUNK_BYTES)):
            if at < len(wanted) and wanted[at] <= start.offset < size:
                found.append(start)
                while at < len(wanted) and wanted[at] <= start.offset:
                    at += 1
    return found


def _count_rows(name: str, part: TextRange, columns: TableColumns, light: list[str]) -> tuple[int, int, bool]:
    """Return (rows, records that the CSV parser drops, whether the rest of the file cannot be read)."""
    dropped = 0
    is_damaged = False

    def count(reason: str, n: int = 1, detail: str = "") -> None:
        nonlocal dropped, is_damaged
        dropped += n if reason == BROKEN_LINE and not detail.endswith(NEVER_CLOSED) else 0
        is_damaged = is_damaged or reason == DAMAGED_ROWS

    if format_of(name)[0] == "jsonl":
        return count_json_rows(name, part), 0, False
    layout = part.facts.layout
    batches = csv_batches(name, None, columns, light[:1], count, layout=layout, part=part, decoder=_Undecoded())
    return sum(batch.num_rows for batch in batches), dropped, is_damaged


class _Undecoded(TextDecoder):
    """Leave values as they are."""

    def decode(self, column: pa.Array) -> pa.Array:
        return column


def _codec(name: str, columns: TableColumns, facts: TextFacts, light: list[str]) -> str | None:
    """Return the charset in which a reader of the whole table would read values that are not UTF-8."""
    if facts.layout.wide is not None or _is_utf8(name):
        return None
    decoder = TextDecoder()
    if format_of(name)[0] == "jsonl":
        batches = jsonl_batches(name, None, light, ignore, layout=facts.layout, decoder=decoder)
    else:
        batches = csv_batches(name, None, columns, light, ignore, layout=facts.layout, decoder=decoder)
    for _ in batches:
        if decoder.codec is not None:
            break
    return decoder.codec


def _is_utf8(name: str) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(name, "rb") as file:
        try:
            while chunk := file.read(_CHUNK_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True

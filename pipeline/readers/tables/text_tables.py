"""Read text tables: CSV and TSV with Arrow, JSON lines with msgspec. Lines are repaired, or dropped one by one."""

import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.common.ranges import open_ranges
from openwit.pipeline.readers.tables.files import (
    BATCH_ROWS,
    BROKEN_LINE,
    DAMAGED_ROWS,
    GUESSED,
    LONGEST_MESSAGE,
    REPAIRED,
    TEXT_LISTS,
    opened_text,
)
from openwit.pipeline.readers.tables.line_stream import LONGEST_LINE
from openwit.pipeline.readers.tables.open_quotes import ClosedQuotes
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.sound_text import TextDecoder, Utf8Lines
from openwit.pipeline.readers.tables.table_ranges import TextRange
from openwit.pipeline.readers.tables.text_layout import TextLayout
from openwit.schemas.common.errors import DataError, one_line
from openwit.schemas.common.lenient_json import lenient_json
from openwit.schemas.common.text_files import Utf8Stream
from openwit.schemas.common.wording import counted

NEVER_CLOSED = "a quote is opened and never closed"

_READ_BYTES = 1 << 20
_PEEK_LINES = 100
_EMPTY = "Empty CSV file"  # Arrow's words


def csv_names(name: str, compression: str | None, columns: TableColumns, layout: TextLayout) -> list[str]:
    """Return the names of the columns of a CSV or TSV file.

    Raises:
        DataError: the file cannot be read, or has no header line and `columns.names` is empty.
    """
    with opened_text(name, compression) as file:
        try:
            reader = pa.csv.open_csv(
                _stream(file, layout, ignore),
                **_csv_options(columns, layout, ignore),
                convert_options=pa.csv.ConvertOptions(check_utf8=False),
            )
        except (pa.ArrowException, OSError) as error:
            kind = "TSV" if layout.delimiter == "\t" else "CSV"
            raise DataError(f"{name} is not a readable {kind} file: {one_line(error, LONGEST_MESSAGE)}") from error
        names = list(reader.schema.names)
    if not columns.names and any(column.startswith(("http://", "https://")) for column in names):
        raise DataError(
            f"{name} has no header line (the first line holds a URL): give `columns: {{names: [caption, url]}}` "
            "with the names of all its columns"
        )
    return names


def csv_batches(
    name: str,
    compression: str | None,
    columns: TableColumns,
    light: list[str],
    count: Count,
    *,
    layout: TextLayout,
    part: TextRange | None = None,
    decoder: TextDecoder | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the columns `light` as strings, rows in order; damaged lines are dropped and counted.

    Args:
        part: read this part only.
        decoder: reads values that are not UTF-8; None for a new one.
    """
    # Read as bytes: one value that is not UTF-8 must not drop the whole block.
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(light, pa.binary()), include_columns=light, check_utf8=False, null_values=[]
    )
    decoder = decoder or TextDecoder("line", part.facts.codec if part else None)
    with _opened(name, compression, count, part) as file:
        try:
            stream = _stream(file, layout, count, decoder, part)
            if part is not None and not part.is_first:
                stream = io.BufferedReader(_AfterBlankLine(stream), _READ_BYTES)
            options = _csv_options(columns, layout, count, part)
            for batch in pa.csv.open_csv(stream, **options, convert_options=convert):
                yield pa.RecordBatch.from_arrays([decoder.decode(column) for column in batch.columns], names=light)
        except (pa.ArrowException, OSError) as error:
            # A part may hold nothing but blank lines and lines that were dropped.
            if part is None or part.is_first or _EMPTY not in str(error):
                count(DAMAGED_ROWS, 0, f"the rest of the file cannot be read: {one_line(error, LONGEST_MESSAGE)}")
    for note in (*_notes(layout, part), *decoder.notes()):
        count(GUESSED, 0, note)


def jsonl_schema(name: str, compression: str | None, layout: TextLayout) -> pa.Schema:
    """Return the columns of a JSON lines file, from its first lines: strings, or lists of strings.

    Raises:
        DataError: the lines hold no JSON objects.
    """
    fields: dict[str, pa.DataType] = {}
    rows = 0
    with opened_text(name, compression) as file:
        for line in itertools.islice(_lines(_stream(file, layout, ignore), name), _PEEK_LINES):
            row = _json_row(line)[0]
            if row is None:
                if not rows and line.lstrip().startswith(b"["):
                    raise DataError(f"{name} holds a JSON array: write one object per line (JSON lines)")
                continue
            rows += 1
            for key, value in row.items():
                if value is not None and key not in fields:
                    fields[key] = TEXT_LISTS if isinstance(value, list) else pa.string()
    if not rows:
        raise DataError(f"{name} holds no JSON objects in its first {_PEEK_LINES} lines: write one object per line")
    return pa.schema(list(fields.items()))


def jsonl_batches(
    name: str,
    compression: str | None,
    light: list[str],
    count: Count,
    *,
    layout: TextLayout,
    part: TextRange | None = None,
    decoder: TextDecoder | None = None,
    kept: Sequence[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Yield the columns `light` as lists of strings, rows in order; see `csv_batches`.

    Lines that are not valid JSON are repaired, or dropped and counted.

    Args:
        kept: columns that follow, each value as JSON text, under the name `json_column` gives.
    """
    repaired, first = 0, ""
    decoder = decoder or TextDecoder("line", part.facts.codec if part else None)
    with _opened(name, compression, count, part) as file:
        rows: list[dict[str, Any]] = []
        try:
            lines = _lines(_stream(file, layout, count, decoder, part), name)
            for number, line in enumerate(lines, start=1 + (part.lines if part else 0)):
                row, problem = _json_row(line)
                if row is None:
                    if line.strip():
                        count(BROKEN_LINE, 1, f"line {number}")
                    continue
                if problem:
                    repaired += 1
                    first = first or f"line {number}: {problem}"
                rows.append(row)
                if len(rows) == BATCH_ROWS:
                    yield _json_batch(rows, light, kept)
                    rows = []
        except (pa.ArrowException, OSError) as error:
            count(DAMAGED_ROWS, 0, f"the rest of the file cannot be read: {one_line(error, LONGEST_MESSAGE)}")
        if rows:
            yield _json_batch(rows, light, kept)
    for note in (*_notes(layout, part), *decoder.notes()):
        count(GUESSED, 0, note)
    if repaired:
        count(REPAIRED, 0, f"{counted(repaired, 'line')} of JSON; the first: {first}")


def count_json_rows(name: str, part: TextRange) -> int:
    """Return the number of rows of a part of a JSON lines file, of which no row is kept.

    Raises:
        DataError: it holds a line that is too long.
    """
    decoder = TextDecoder("line", part.facts.codec)
    with open_ranges(name, start=part.start, end=part.end) as file:
        lines = _lines(_stream(file, part.facts.layout, ignore, decoder, part), name)
        return sum(_json_row(line)[0] is not None for line in lines)


def _opened(
    name: str, compression: str | None, count: Count, part: TextRange | None
) -> contextlib.AbstractContextManager[Any]:
    if part is None:
        return opened_text(name, compression, count)
    return open_ranges(name, start=part.start, end=part.end)


def _notes(layout: TextLayout, part: TextRange | None) -> tuple[str, ...]:
    return layout.notes if part is None or part.is_first else ()


def _stream(
    file: Any, layout: TextLayout, count: Count, decoder: TextDecoder | None = None, part: TextRange | None = None
) -> Any:
    """Return a file as UTF-8, and if its fields are quoted without the lines whose quote is never closed."""
    if layout.wide is not None:

        def lose(characters: int) -> None:
            count(REPAIRED, 0, f"{counted(characters, 'character')} could not be decoded")

        mark = layout.mark if part is None or part.is_first else 0
        file = io.BufferedReader(Utf8Stream(file, layout.wide, mark, lose), _READ_BYTES)
    else:
        # Arrow reports a line that it cannot parse as text, whatever the columns are read as.
        file = io.BufferedReader(Utf8Lines(file, decoder or TextDecoder()), _READ_BYTES)
    if layout.quoted:

        def drop(number: int) -> None:
            count(BROKEN_LINE, 1, f"line {number}: {NEVER_CLOSED}")

        lines, columns = (part.lines, part.facts.columns) if part and not part.is_first else (0, 0)
        closed = ClosedQuotes(file, layout.delimiter, drop, lines=lines, columns=columns)
        file = io.BufferedReader(closed, _READ_BYTES)
    return file


class _AfterBlankLine(io.RawIOBase):
    """A stream after a blank line, so that Arrow takes no byte order mark off the first value of a part."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream
        self._ready = b"\n"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._ready or self._stream.read(len(buffer))
        self._ready = b""
        buffer[: len(data)] = data
        return len(data)


def _csv_options(
    columns: TableColumns, layout: TextLayout, count: Count, part: TextRange | None = None
) -> dict[str, Any]:
    before = part.records if part else 0

    def skip(row: Any) -> str:
        detail = f"line {row.number + before}: " if row.number is not None else ""
        count(BROKEN_LINE, 1, f"{detail}{row.actual_columns} columns, expected {row.expected_columns}")
        return "skip"

    names = list(part.facts.names) if part and not part.is_first else list(columns.names)
    quoting = {"quote_char": '"', "newlines_in_values": True} if layout.quoted else {"quote_char": False}
    return {
        "read_options": pa.csv.ReadOptions(
            use_threads=False,
            block_size=LONGEST_LINE,
            skip_rows=layout.skipped if part is None or part.is_first else 0,
            column_names=names or None,
        ),
        "parse_options": pa.csv.ParseOptions(delimiter=layout.delimiter, invalid_row_handler=skip, **quoting),
    }


def _lines(file: Any, name: str) -> Iterator[bytes]:
    rest = b""
    while chunk := file.read(_READ_BYTES):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > LONGEST_LINE:
            raise DataError(f"{name} has a line of more than {LONGEST_LINE} bytes: it is not a JSON lines file")
        yield from lines
    if rest:
        yield rest


def _json_row(line: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return the object of a line, or None, and what had to be repaired."""
    if not line.strip():
        return None, ""
    row, problem = lenient_json(line)
    return (row if isinstance(row, dict) else None), problem


def json_column(name: str) -> str:
    """Return the name under which `jsonl_batches` gives the values of a kept column."""
    return f"json {name}"


def _json_batch(rows: list[dict[str, Any]], light: list[str], kept: Sequence[str]) -> pa.RecordBatch:
    """Return every column as lists of strings: rows of one file may hold a text or a list of texts."""
    arrays = [pa.array([_strings(row.get(name)) for row in rows], TEXT_LISTS) for name in light]
    values = (
        (None if row.get(name) is None else msgspec.json.encode(row[name]).decode() for row in rows) for name in kept
    )
    arrays += [pa.array(list(each), pa.string()) for each in values]
    return pa.RecordBatch.from_arrays(arrays, names=[*light, *map(json_column, kept)])


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    # Numbers become text: keys often are numbers.
    return [str(item) for item in values if isinstance(item, str | int | float) and not isinstance(item, bool)]

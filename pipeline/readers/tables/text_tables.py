"""Read text tables: CSV and TSV with Arrow, JSON lines with msgspec. Lines are repaired, or dropped one by one."""

import io
import itertools
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv

from openwit.pipeline.common.counting import Count, ignore
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
from openwit.pipeline.readers.tables.open_quotes import ClosedQuotes
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.sound_text import TextDecoder, Utf8Lines
from openwit.pipeline.readers.tables.text_layout import TextLayout
from openwit.schemas.common.errors import DataError, one_line
from openwit.schemas.common.lenient_json import lenient_json
from openwit.schemas.common.text_files import Utf8Stream
from openwit.schemas.common.wording import counted

_CSV_BLOCK_BYTES = 16 << 20  # maximum size of a row
_READ_BYTES = 1 << 20
_PEEK_LINES = 100


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
) -> Iterator[pa.RecordBatch]:
    """Yield the columns `light` as strings, rows in order; damaged lines are dropped and counted."""
    # Read as bytes: one value that is not UTF-8 must not drop the whole block.
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(light, pa.binary()), include_columns=light, check_utf8=False, null_values=[]
    )
    decoder = TextDecoder("line")
    with opened_text(name, compression, count) as file:
        try:
            stream = _stream(file, layout, count, decoder)
            reader = pa.csv.open_csv(stream, **_csv_options(columns, layout, count), convert_options=convert)
            for batch in reader:
                yield pa.RecordBatch.from_arrays([decoder.decode(column) for column in batch.columns], names=light)
        except (pa.ArrowException, OSError) as error:
            count(DAMAGED_ROWS, 0, f"the rest of the file cannot be read: {one_line(error, LONGEST_MESSAGE)}")
    for note in (*layout.notes, *decoder.notes()):
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
    name: str, compression: str | None, light: list[str], count: Count, *, layout: TextLayout
) -> Iterator[pa.RecordBatch]:
    """Yield the columns `light` as lists of strings, rows in order.

    Lines that are not valid JSON are repaired, or dropped and counted.
    """
    repaired, first = 0, ""
    decoder = TextDecoder("line")
    with opened_text(name, compression, count) as file:
        rows: list[dict[str, Any]] = []
        try:
            for number, line in enumerate(_lines(_stream(file, layout, count, decoder), name), start=1):
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
                    yield _json_batch(rows, light)
                    rows = []
        except (pa.ArrowException, OSError) as error:
            count(DAMAGED_ROWS, 0, f"the rest of the file cannot be read: {one_line(error, LONGEST_MESSAGE)}")
        if rows:
            yield _json_batch(rows, light)
    for note in (*layout.notes, *decoder.notes()):
        count(GUESSED, 0, note)
    if repaired:
        count(REPAIRED, 0, f"{counted(repaired, 'line')} of JSON; the first: {first}")


def _stream(file: Any, layout: TextLayout, count: Count, decoder: TextDecoder | None = None) -> Any:
    """Return a file as UTF-8, and if its fields are quoted without the lines whose quote is never closed."""
    if layout.wide is not None:

        def lose(characters: int) -> None:
            count(REPAIRED, 0, f"{counted(characters, 'character')} could not be decoded")

        file = io.BufferedReader(Utf8Stream(file, layout.wide, layout.mark, lose), _READ_BYTES)
    else:
        # Arrow reports a line that it cannot parse as text, whatever the columns are read as.
        file = io.BufferedReader(Utf8Lines(file, decoder or TextDecoder()), _READ_BYTES)
    if layout.quoted:

        def drop(number: int) -> None:
            count(BROKEN_LINE, 1, f"line {number}: a quote is opened and never closed")

        file = io.BufferedReader(ClosedQuotes(file, layout.delimiter, drop), _READ_BYTES)
    return file


def _csv_options(columns: TableColumns, layout: TextLayout, count: Count) -> dict[str, Any]:
    def skip(row: Any) -> str:
        detail = f"line {row.number}: " if row.number is not None else ""
        count(BROKEN_LINE, 1, f"{detail}{row.actual_columns} columns, expected {row.expected_columns}")
        return "skip"

    quoting = {"quote_char": '"', "newlines_in_values": True} if layout.quoted else {"quote_char": False}
    return {
        "read_options": pa.csv.ReadOptions(
            use_threads=False,
            block_size=_CSV_BLOCK_BYTES,
            skip_rows=layout.skipped,
            column_names=list(columns.names) or None,
        ),
        "parse_options": pa.csv.ParseOptions(delimiter=layout.delimiter, invalid_row_handler=skip, **quoting),
    }


def _lines(file: Any, name: str) -> Iterator[bytes]:
    rest = b""
    while chunk := file.read(_READ_BYTES):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > _CSV_BLOCK_BYTES:
            raise DataError(f"{name} has a line of more than {_CSV_BLOCK_BYTES} bytes: it is not a JSON lines file")
        yield from lines
    if rest:
        yield rest


def _json_row(line: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return the object of a line, or None, and what had to be repaired."""
    if not line.strip():
        return None, ""
    row, problem = lenient_json(line)
    return (row if isinstance(row, dict) else None), problem


def _json_batch(rows: list[dict[str, Any]], light: list[str]) -> pa.RecordBatch:
    """Return every column as lists of strings: rows of one file may hold a text or a list of texts."""
    arrays = [pa.array([_strings(row.get(name)) for row in rows], TEXT_LISTS) for name in light]
    return pa.RecordBatch.from_arrays(arrays, names=light)


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    # Numbers become text: keys often are numbers.
    return [str(item) for item in values if isinstance(item, str | int | float) and not isinstance(item, bool)]

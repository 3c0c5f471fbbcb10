"""Read text tables: CSV and TSV with Arrow, JSON lines with msgspec. Unparsable lines are dropped one by one."""

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.readers.tables.files import BATCH_ROWS, BROKEN_LINE, DAMAGED_ROWS, TEXT_LISTS, one_line, opened
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.schemas.common.errors import DataError

_CSV_BLOCK_BYTES = 16 << 20  # maximum size of a row
_READ_BYTES = 1 << 20
_PEEK_LINES = 100


def csv_names(name: str, kind: str, compression: str | None, columns: TableColumns) -> list[str]:
    """Return the names of the columns of a CSV or TSV file.

    Raises:
        DataError: the file cannot be read, or has no header line and `columns.names` is empty.
    """
    with opened(name, compression) as file:
        try:
            reader = pa.csv.open_csv(
                file,
                **_csv_options(kind, columns, ignore),
                convert_options=pa.csv.ConvertOptions(check_utf8=False),
            )
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{name} is not a readable {kind.upper()} file: {one_line(error)}") from error
        names = list(reader.schema.names)
    if not columns.names and any(column.startswith(("http://", "https://")) for column in names):
        raise DataError(
            f"{name} has no header line (the first line holds a URL): give `columns: {{names: [caption, url]}}` "
            "with the names of all its columns"
        )
    return names


def csv_batches(
    name: str, kind: str, compression: str | None, columns: TableColumns, light: list[str], count: Count
) -> Iterator[pa.RecordBatch]:
    """Yield the columns `light` as strings, rows in order; damaged lines are dropped and counted."""
    # Read as bytes: one value that is not UTF-8 must not drop the whole block.
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(light, pa.binary()), include_columns=light, check_utf8=False, null_values=[]
    )
    with opened(name, compression, count) as file:
        try:
            reader = pa.csv.open_csv(file, **_csv_options(kind, columns, count), convert_options=convert)
            for batch in reader:
                yield pa.RecordBatch.from_arrays([_decoded(column) for column in batch.columns], names=light)
        except (pa.ArrowException, OSError) as error:
            count(DAMAGED_ROWS, 0, f"the rest of the file cannot be read: {one_line(error)}")


def jsonl_schema(name: str, compression: str | None) -> pa.Schema:
    """Return the columns of a JSON lines file, from its first lines: strings, or lists of strings.

    Raises:
        DataError: the lines hold no JSON objects.
    """
    fields: dict[str, pa.DataType] = {}
    rows = 0
    with opened(name, compression) as file:
        for line in itertools.islice(_lines(file, name), _PEEK_LINES):
            row = _json_row(line)
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


def jsonl_batches(name: str, compression: str | None, light: list[str], count: Count) -> Iterator[pa.RecordBatch]:
    """Yield the columns `light` as lists of strings, rows in order; damaged lines are dropped and counted."""
    with opened(name, compression, count) as file:
        rows: list[dict[str, Any]] = []
        try:
            for number, line in enumerate(_lines(file, name), start=1):
                row = _json_row(line)
                if row is None:
                    if line.strip():
                        count(BROKEN_LINE, 1, f"line {number}")
                    continue
                rows.append(row)
                if len(rows) == BATCH_ROWS:
                    yield _json_batch(rows, light)
                    rows = []
        except (pa.ArrowException, OSError) as error:
            count(DAMAGED_ROWS, 0, f"the rest of the file cannot be read: {one_line(error)}")
        if rows:
            yield _json_batch(rows, light)


def _csv_options(kind: str, columns: TableColumns, count: Count) -> dict[str, Any]:
    def skip(row: Any) -> str:
        detail = f"line {row.number}: " if row.number is not None else ""
        count(BROKEN_LINE, 1, f"{detail}{row.actual_columns} columns, expected {row.expected_columns}")
        return "skip"

    # TSV has no quoting (IANA text/tab-separated-values): a caption may begin with a quote without ending with one.
    quoting = {"quote_char": '"', "newlines_in_values": True} if kind == "csv" else {"quote_char": False}
    return {
        "read_options": pa.csv.ReadOptions(
            use_threads=False, block_size=_CSV_BLOCK_BYTES, column_names=list(columns.names) or None
        ),
        "parse_options": pa.csv.ParseOptions(
            delimiter="," if kind == "csv" else "\t", invalid_row_handler=skip, **quoting
        ),
    }


def _decoded(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        values = [value.decode("utf-8", "replace") if value is not None else None for value in column.to_pylist()]
        return pa.array(values, pa.string())


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


def _json_row(line: bytes) -> dict[str, Any] | None:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _json_batch(rows: list[dict[str, Any]], light: list[str]) -> pa.RecordBatch:
    """Return every column as lists of strings: rows of one file may hold a text or a list of texts."""
    arrays = [pa.array([_strings(row.get(name)) for row in rows], TEXT_LISTS) for name in light]
    return pa.RecordBatch.from_arrays(arrays, names=light)


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    # Numbers become text: keys often are numbers.
    return [str(item) for item in values if isinstance(item, str | int | float) and not isinstance(item, bool)]

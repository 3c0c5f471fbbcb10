"""Tables of (image, text): Parquet, CSV, TSV and JSON lines, with URLs or with the image bytes themselves.

Batches carry the light columns only; image bytes are read for the rows that are wanted, when they are wanted.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.web.counting import Count, ignore
from pipeline.web.table_columns import ResolvedColumns, TableColumns, is_list, resolve_columns
from schemas.errors import UserError

BROKEN_LINE = "broken_line"
DAMAGED_ROWS = "damaged_rows"
ROW_REASONS = (BROKEN_LINE, DAMAGED_ROWS)
"""Why a row of a table never came out of it: a line that does not parse; a stretch of the file that cannot be read."""

BATCH_ROWS = 16_384

_FORMATS = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".json": "jsonl",
}  # fmt: skip
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}
_CSV_BLOCK_BYTES = 16 << 20  # a row must fit
_PEEK_LINES = 100
_IMAGE_BATCH_ROWS = 64
_TEXT_LISTS = pa.list_(pa.string())


@dataclass(frozen=True)
class TableBatch:
    """Some rows of a table, every one of them in order: row `first_row + i` of the table is element i.

    Attributes:
        first_row: number of the first row in the table.
        texts: list<string>, no nulls; empty where the row has no text.
        url, split, license, key: string, null where the row has none; None where the table has no such column.
    """

    first_row: int
    texts: pa.ListArray
    url: pa.StringArray | None
    split: pa.StringArray | None
    license: pa.StringArray | None
    key: pa.StringArray | None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class TableReader:
    """An open table: its format, its columns, and its rows.

    Attributes:
        path: as it was given.
        format: parquet | csv | tsv | jsonl.
        columns: what was found.
    """

    path: str
    format: str
    columns: ResolvedColumns
    _batches: Callable[[], Iterator[pa.RecordBatch | int]]

    @property
    def has_images(self) -> bool:
        """The table holds the image bytes."""
        return self.columns.image is not None

    def batches(self) -> Iterator[TableBatch]:
        """The rows without the image bytes, in order. Can be called again."""
        row = 0
        for batch in self._batches():
            if isinstance(batch, int):  # rows that could not be read keep their numbers
                row += batch
                continue
            yield _table_batch(batch, row, self.columns)
            row += batch.num_rows


def open_table(path: str | Path, columns: TableColumns | None = None, count: Count = ignore) -> TableReader:
    """Opens a table, local or at a URL that fsspec knows; CSV, TSV and JSON lines may be compressed.

    Args:
        path: the format is told by the extension: .parquet, .csv, .tsv, .jsonl (+ .gz, .zst, .bz2).
        columns: the user's names of columns.
        count: gets `ROW_REASONS` while the batches are read.

    Raises:
        UserError: the file cannot be read, is no table, or the columns do not say where images and texts are.
    """
    name = str(path)
    columns = columns or TableColumns()
    kind, compression = _format_of(name)
    if kind == "parquet":
        with _parquet(name) as file:
            resolved = resolve_columns(file.schema_arrow, columns, name)
        return TableReader(name, kind, resolved, functools.partial(_parquet_batches, name, resolved, count))
    if kind == "jsonl":
        resolved = resolve_columns(_jsonl_schema(name, compression), columns, name)
        return TableReader(
            name, kind, resolved, functools.partial(_jsonl_batches, name, compression, resolved.light(), count)
        )
    header = _csv_names(name, kind, compression, columns)
    resolved = resolve_columns(pa.schema([(column, pa.string()) for column in header]), columns, name)
    return TableReader(
        name,
        kind,
        resolved,
        functools.partial(_csv_batches, name, kind, compression, columns, resolved.light(), count),
    )


def read_images(
    path: str | Path, rows: Iterable[int], columns: TableColumns | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yields (row, image bytes) of the wanted rows of a Parquet table in ascending order; empty bytes for a null.

    Only row groups with a wanted row are read, and of those only the column with the images, a few rows at a time.

    Raises:
        UserError: the file cannot be read, holds no images, or has fewer rows than are asked for.
    """
    name = str(path)
    wanted = sorted(set(rows))
    with _parquet(name) as file:
        image = resolve_columns(file.schema_arrow, columns or TableColumns(), name).image
        if image is None:
            raise UserError(f"{name} holds no image bytes: its images must be fetched by their URLs")
        if wanted and not 0 <= wanted[0] <= wanted[-1] < file.metadata.num_rows:
            raise UserError(
                f"{name} has {file.metadata.num_rows} rows, but row {wanted[-1]} is asked for: it changed since its "
                "candidates were read, read them again"
            )
        try:
            yield from _wanted_images(file, image, wanted)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{name} is damaged: {_one_line(error)}") from error


def _wanted_images(file: pq.ParquetFile, image: str, wanted: list[int]) -> Iterator[tuple[int, bytes]]:
    is_struct = pa.types.is_struct(file.schema_arrow.field(image).type)
    first = 0
    position = 0  # in wanted
    for group in range(file.num_row_groups):
        after = first + file.metadata.row_group(group).num_rows
        if position < len(wanted) and wanted[position] < after:
            row = first
            columns = [f"{image}.bytes"] if is_struct else [image]
            for batch in file.iter_batches(_IMAGE_BATCH_ROWS, [group], columns, use_threads=False):
                values = batch.column(0).field("bytes") if is_struct else batch.column(0)
                while position < len(wanted) and wanted[position] < row + batch.num_rows:
                    yield wanted[position], values[wanted[position] - row].as_py() or b""
                    position += 1
                row += batch.num_rows
        first = after


def is_table_name(name: str) -> bool:
    """Whether a file's extension is that of a table."""
    try:
        _format_of(name)
    except UserError:
        return False
    return True


def _format_of(name: str) -> tuple[str, str | None]:
    path = PurePosixPath(name.partition("?")[0].lower())
    compression = _COMPRESSIONS.get(path.suffix)
    kind = _FORMATS.get(path.with_suffix("").suffix if compression else path.suffix)
    if kind is None:
        raise UserError(f"{name} is no table by its name: use .parquet, .csv, .tsv or .jsonl (.gz, .zst and .bz2 too)")
    return kind, compression if kind != "parquet" else None


@contextlib.contextmanager
def _parquet(name: str) -> Iterator[pq.ParquetFile]:
    with _opened(name) as file:
        try:
            parquet = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{name} is not a readable Parquet file: {_one_line(error)}") from error
        yield parquet


@contextlib.contextmanager
def _opened(name: str, compression: str | None = None) -> Iterator[Any]:
    """A file for Arrow."""
    with contextlib.ExitStack() as stack:
        try:
            if "://" in name:
                file = pa.PythonFile(stack.enter_context(fsspec.open(name, "rb")), mode="r")
            else:
                file = pa.OSFile(name, "rb")
            stack.callback(file.close)
            if compression is not None:
                file = stack.enter_context(pa.CompressedInputStream(file, compression))
        except FileNotFoundError:
            raise UserError(f"{name} does not exist") from None
        except ImportError as error:
            raise UserError(f"{name} needs a package that is not installed: {error}") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{name} cannot be opened: {_one_line(error)}") from error
        yield file


def _parquet_batches(name: str, columns: ResolvedColumns, count: Count) -> Iterator[pa.RecordBatch | int]:
    with _parquet(name) as file:
        for group in range(file.num_row_groups):
            done = 0
            rows = file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(BATCH_ROWS, [group], columns.light(), use_threads=False):
                    yield batch
                    done += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                count(DAMAGED_ROWS, rows - done, f"row group {group}: {_one_line(error)}")
                yield rows - done


def _csv_options(kind: str, columns: TableColumns, count: Count) -> dict[str, Any]:
    def skip(row: Any) -> str:
        detail = f"line {row.number}: " if row.number is not None else ""
        count(BROKEN_LINE, 1, f"{detail}{row.actual_columns} columns, expected {row.expected_columns}")
        return "skip"

    # TSV has no quoting (IANA text/tab-separated-values): a caption may begin with a quote and not end with one
    quoting = {"quote_char": '"', "newlines_in_values": True} if kind == "csv" else {"quote_char": False}
    return {
        "read_options": pa.csv.ReadOptions(
            use_threads=False, block_size=_CSV_BLOCK_BYTES, column_names=list(columns.names) or None
        ),
        "parse_options": pa.csv.ParseOptions(
            delimiter="," if kind == "csv" else "\t", invalid_row_handler=skip, **quoting
        ),
    }


def _csv_names(name: str, kind: str, compression: str | None, columns: TableColumns) -> list[str]:
    with _opened(name, compression) as file:
        try:
            reader = pa.csv.open_csv(
                file,
                **_csv_options(kind, columns, ignore),
                convert_options=pa.csv.ConvertOptions(check_utf8=False),
            )
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{name} is not a readable {kind.upper()} file: {_one_line(error)}") from error
        names = list(reader.schema.names)
    if not columns.names and any(column.startswith(("http://", "https://")) for column in names):
        raise UserError(
            f"{name} has no header line (the first line holds a URL): give `columns: {{names: [caption, url]}}` "
            "with the names of all its columns"
        )
    return names


def _csv_batches(
    name: str, kind: str, compression: str | None, columns: TableColumns, light: list[str], count: Count
) -> Iterator[pa.RecordBatch | int]:
    # read as bytes: one value that is not UTF-8 must not cost the whole block
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(light, pa.binary()), include_columns=light, check_utf8=False, null_values=[]
    )
    with _opened(name, compression) as file:
        try:
            reader = pa.csv.open_csv(file, **_csv_options(kind, columns, count), convert_options=convert)
            for batch in reader:
                yield pa.RecordBatch.from_arrays([_decoded(column) for column in batch.columns], names=light)
        except (pa.ArrowException, OSError) as error:
            count(DAMAGED_ROWS, 0, f"the rest of the file cannot be read: {_one_line(error)}")


def _decoded(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        values = [value.decode("utf-8", "replace") if value is not None else None for value in column.to_pylist()]
        return pa.array(values, pa.string())


def _jsonl_schema(name: str, compression: str | None) -> pa.Schema:
    fields: dict[str, pa.DataType] = {}
    rows = 0
    with _opened(name, compression) as file:
        for line in itertools.islice(_lines(file, name), _PEEK_LINES):
            row = _json_row(line)
            if row is None:
                if line.lstrip().startswith(b"["):
                    raise UserError(f"{name} holds a JSON array: write one object a line (JSON lines)")
                continue
            rows += 1
            for key, value in row.items():
                if value is not None and key not in fields:
                    fields[key] = _TEXT_LISTS if isinstance(value, list) else pa.string()
    if not rows:
        raise UserError(f"{name} holds no JSON objects in its first {_PEEK_LINES} lines: write one object a line")
    return pa.schema(list(fields.items()))


def _jsonl_batches(
    name: str, compression: str | None, light: list[str], count: Count
) -> Iterator[pa.RecordBatch | int]:
    with _opened(name, compression) as file:
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
            count(DAMAGED_ROWS, 0, f"the rest of the file cannot be read: {_one_line(error)}")
        if rows:
            yield _json_batch(rows, light)


def _lines(file: Any, name: str) -> Iterator[bytes]:
    rest = b""
    while chunk := file.read(_CSV_BLOCK_BYTES // 16):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > _CSV_BLOCK_BYTES:
            raise UserError(f"{name} has a line of more than {_CSV_BLOCK_BYTES} bytes: it is no JSON lines file")
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
    """Every column as lists of strings: rows of one file may hold a text or a list of texts."""
    arrays = [pa.array([_strings(row.get(name)) for row in rows], _TEXT_LISTS) for name in light]
    return pa.RecordBatch.from_arrays(arrays, names=light)


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    # numbers are written as text: keys often are numbers
    return [str(item) for item in values if isinstance(item, str | int | float) and not isinstance(item, bool)]


def _table_batch(batch: pa.RecordBatch, first_row: int, columns: ResolvedColumns) -> TableBatch:
    def single(name: str | None) -> pa.StringArray | None:
        if name is None:
            return None
        column = batch.column(name)
        if is_list(column.type):
            return pa.array([next(iter(values), None) for values in column.to_pylist()], pa.string())
        return _as_string(column)

    return TableBatch(
        first_row,
        _texts([batch.column(name) for name in columns.texts]),
        single(columns.url),
        single(columns.split),
        single(columns.license),
        single(columns.key),
    )


def _texts(columns: list[pa.Array]) -> pa.ListArray:
    """All texts of each row: of several columns one after the other, nulls and blank ones left out."""
    if len(columns) == 1:
        return _texts_of(columns[0])
    rows: list[list[str]] = [[] for _ in range(len(columns[0]))]
    for column in columns:
        for row, texts in zip(rows, _texts_of(column).to_pylist(), strict=True):
            row.extend(texts)
    return pa.array(rows, _TEXT_LISTS)


def _texts_of(column: pa.Array) -> pa.ListArray:
    if is_list(column.type):
        lists = pc.fill_null(column.cast(_TEXT_LISTS), pa.scalar([], _TEXT_LISTS))
        values = lists.flatten()
        counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    else:
        values = _as_string(column)
        counts = np.ones(len(values), dtype=np.int64)
    is_text = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(values), ""), False).to_numpy(zero_copy_only=False)
    ends = np.concatenate(([0], np.cumsum(is_text)))[np.concatenate(([0], np.cumsum(counts)))]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values.filter(pa.array(is_text)))


def _as_string(column: pa.Array) -> pa.StringArray:
    if column.type == pa.string():
        return column
    return column.cast(pa.string())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

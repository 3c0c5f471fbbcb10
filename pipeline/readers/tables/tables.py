"""Read tables of (image, text): Parquet, CSV, TSV and JSON lines, with URLs or with the image bytes.

Batches have all columns except the image bytes, which are read later and only for the requested rows.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openwit.pipeline.common.column_types import FoundType, type_named
from openwit.pipeline.common.column_values import KEY, UID, json_row
from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.common.ranges import open_ranges
from openwit.pipeline.readers.tables.columns import ResolvedColumns, is_list, resolve_columns
from openwit.pipeline.readers.tables.files import (
    BATCH_ROWS,
    BROKEN_LINE,
    DAMAGED_ROWS,
    GUESSED,
    LONGEST_MESSAGE,
    ROW_NOTES,
    ROW_REASONS,
    TEXT_LISTS,
    format_of,
    head_of,
    is_table_name,
    opened,
)
from openwit.pipeline.readers.tables.kept import declared_types, demands_of, inferred_types, kept_json
from openwit.pipeline.readers.tables.partitions import partitions_of
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.sound_text import TextDecoder
from openwit.pipeline.readers.tables.table_ranges import RowRange, TableRange, TextFacts, TextRange
from openwit.pipeline.readers.tables.text_layout import HEAD_BYTES, text_layout
from openwit.pipeline.readers.tables.text_tables import csv_batches, csv_names, jsonl_batches, jsonl_schema
from openwit.schemas.common.errors import DataError, one_line
from openwit.schemas.common.storage.remote import is_remote

__all__ = [
    "BROKEN_LINE",
    "DAMAGED_ROWS",
    "NOTHING_KEPT",
    "ROW_NOTES",
    "ROW_REASONS",
    "KeptColumns",
    "TableBatch",
    "TableReader",
    "is_table_name",
    "open_table",
    "read_images",
]

_IMAGE_BATCH_ROWS = 64


@dataclass(frozen=True)
class TableBatch:
    """Consecutive rows of a table: row `first_row + i` of the table is element i.

    Attributes:
        first_row: number of the first row in the table.
        texts: list<string>, no nulls; empty if the row has no text.
        url, split, license, key, language: string, null if the row has none; None if the table has no such column.
        columns: the kept columns of each row as JSON; None if none are kept.
        demands: what each row demands of its image, as the table has it; None if nothing is.
    """

    first_row: int
    texts: pa.ListArray
    url: pa.StringArray | None
    split: pa.StringArray | None
    license: pa.StringArray | None
    key: pa.StringArray | None
    language: pa.StringArray | None
    columns: Sequence[str | None] | None = None
    demands: Sequence[Mapping[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class TableReader:
    """An open table: its format, its columns, and its rows.

    Attributes:
        path: as given.
        format: parquet | csv | tsv | jsonl.
        columns: the columns found.
    """

    path: str
    format: str
    columns: ResolvedColumns
    _batches: Callable[[], Iterator[pa.RecordBatch | int]]
    _kept: "KeptColumns" = field(default_factory=lambda: KeptColumns())

    @property
    def has_images(self) -> bool:
        """Return whether the table holds the image bytes."""
        return self.columns.image is not None

    def batches(self) -> Iterator[TableBatch]:
        """Yield the rows without the image bytes, in order. Can be called again."""
        row = 0
        for batch in self._batches():
            if isinstance(batch, int):  # unreadable rows are counted, so that later rows keep their numbers
                row += batch
                continue
            found = _table_batch(batch, row, self.columns)
            if self._kept.any(self.columns):
                found = replace(found, columns=self._kept.of(batch, self.columns, self.path))
            if self.columns.demands:
                found = replace(found, demands=demands_of(batch, self.columns.demands))
            yield found
            row += batch.num_rows

    def kept_types(self) -> dict[str, FoundType]:
        """Return the types of the kept columns by the values of the whole table, for a format that declares none."""
        kept = self.columns.kept
        return inferred_types((b for b in self._batches() if not isinstance(b, int)), kept) if kept else {}


@dataclass(frozen=True)
class KeptColumns:
    """How the columns are kept that are none of ours.

    Attributes:
        types: name to the name of the type that it has in the dataset.
        carry_keys: whether the key of each row is kept.
        own_uid: whether the key is the sample's uid too.
    """

    types: Mapping[str, str] = field(default_factory=dict)
    carry_keys: bool = False
    own_uid: bool = False

    def any(self, columns: ResolvedColumns) -> bool:
        """Return whether anything of a table is kept."""
        return bool(columns.kept) or (columns.key is not None and (self.carry_keys or self.own_uid))

    def of(self, batch: pa.RecordBatch, columns: ResolvedColumns, where: str) -> list[str | None]:
        """Return what is kept of each row of a batch of a table, as JSON."""
        key = columns.key if self.carry_keys or self.own_uid else None
        types = {name: type_named(kind) for name, kind in self.types.items()}
        return kept_json(batch, columns.kept, types, key, self.own_uid, where)

    def of_row(self, key: str | None, values: Mapping[str, Any] | None = None) -> str | None:
        """Return what is kept of one row or sample as JSON; None for nothing.

        Args:
            key: that the input gives it.
            values: of the kept columns, as JSON can hold them (`column_values.encoded`), by the names that they get.
        """
        found = {name: value for name, value in (values or {}).items() if value is not None}
        if key is not None:
            found |= {KEY: key} if self.carry_keys else {}
            found = {UID: key, **found} if self.own_uid else found
        return json_row(found)


NOTHING_KEPT = KeptColumns()


def open_table(
    path: str | Path,
    columns: TableColumns | None = None,
    *,
    count: Count = ignore,
    part: TableRange | None = None,
    source: str | None = None,
    texts_required: bool = True,
    images_required: bool = True,
    kept: KeptColumns | None = None,
) -> TableReader:
    """Open a table, local or at a URL that fsspec knows; CSV, TSV and JSON lines may be compressed.

    Args:
        path: its extension gives the format: .parquet, .csv, .tsv, .jsonl (+ .gz, .zst, .bz2).
        columns: names of columns given by the user.
        count: receives `ROW_REASONS` and `ROW_NOTES` while the batches are read.
        part: read this part only, found by `splitting.table_ranges`; rows keep their numbers.
        source: where the table comes from, if `path` is a copy: its folders may name values (`split=test`).
        texts_required: whether a table without texts is refused.
        images_required: whether a table without images and their URLs is refused.
        kept: types of the columns that `columns.keep` names, found by `TableReader.kept_types` in all tables.

    Raises:
        DataError: the file cannot be read, is not a table, or has no columns with images and texts.
    """
    name = str(path)
    columns = columns or TableColumns()
    kind, compression = format_of(name)
    folders = partitions_of(name if source is None else source)
    if kind == "parquet":
        with _parquet(name, in_ranges=part is not None) as file:
            resolved = resolve_columns(
                file.schema_arrow,
                columns,
                where=name,
                folders=folders,
                texts_required=texts_required,
                images_required=images_required,
            )
            if images_required:
                _check_images(file, resolved, name)
        rows = part if isinstance(part, RowRange) else None
        read = functools.partial(_parquet_batches, name, resolved, count, rows)
        return TableReader(name, kind, resolved, read, kept or KeptColumns())
    span = part if isinstance(part, TextRange) else None
    facts = span.facts if span else text_facts(name, columns)
    resolved = resolve_columns(
        _schema_of(facts),
        columns,
        where=name,
        folders=folders,
        texts_required=texts_required,
        images_required=images_required,
        any_name=kind == "jsonl",
    )
    light = resolved.light()
    if kind == "jsonl":
        values = tuple(resolved.as_they_are())
        light = [name for name in light if name not in values or name in resolved.read_as_text()]
        read = functools.partial(
            jsonl_batches, name, compression, light, count, layout=facts.layout, part=span, kept=values
        )
    else:
        read = functools.partial(csv_batches, name, compression, columns, light, count, layout=facts.layout, part=span)
    numbered = functools.partial(_numbered, read, span.row if span else 0)
    return TableReader(name, kind, resolved, numbered, kept or KeptColumns())


class TableFacts(NamedTuple):
    """What is kept of a table: names of all its columns, types of those that are kept, and whether rows have keys."""

    names: list[str]
    kept: dict[str, FoundType]
    has_key: bool


def table_facts(name: str, columns: TableColumns) -> TableFacts:
    """Return the columns of a table; of a Parquet file only its end is read, of others all if anything is kept.

    Raises:
        DataError: as `open_table`.
    """
    kind, _ = format_of(name)
    if kind != "parquet":
        reader = open_table(name, columns, texts_required=False)
        names = list(text_facts(name, columns).names)
        types = reader.kept_types()
        # Of JSON lines any name may be wanted: one that no row has is not there.
        types = {at: t for at, t in types.items() if reader.columns.kept[at] in names or not pa.types.is_null(t.type)}
        names += [reader.columns.kept[at] for at in types if reader.columns.kept[at] not in names]
        return TableFacts(names, types, reader.columns.key is not None)
    with _parquet(name, in_ranges=True) as file:
        schema = file.schema_arrow
        resolved = resolve_columns(schema, columns, where=name, folders=partitions_of(name), texts_required=False)
    return TableFacts(list(schema.names), declared_types(schema, resolved.kept), resolved.key is not None)


def text_facts(path: str | Path, columns: TableColumns) -> TextFacts:
    """Return what the beginning of a text table tells about all of it.

    Raises:
        DataError: the file cannot be read, or has no header or no JSON objects.
    """
    name = str(path)
    kind, compression = format_of(name)
    layout = text_layout(head_of(name, compression, HEAD_BYTES), kind, columns)
    if kind == "jsonl":
        schema = jsonl_schema(name, compression, layout)
        return TextFacts(layout, tuple(schema.names), tuple(field.name for field in schema if is_list(field.type)))
    return TextFacts(layout, tuple(csv_names(name, compression, columns, layout)))


def _numbered(read: Callable[[], Iterator[pa.RecordBatch]], first_row: int) -> Iterator[pa.RecordBatch | int]:
    yield first_row
    yield from read()


def _schema_of(facts: TextFacts) -> pa.Schema:
    return pa.schema([(name, TEXT_LISTS if name in facts.lists else pa.string()) for name in facts.names])


def read_images(
    path: str | Path, rows: Iterable[int], *, columns: TableColumns | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield (row, image bytes) of the requested rows of a Parquet table in ascending order; empty bytes for a null.

    Only row groups with a requested row are read, and of those only the image column, a few rows at a time.

    Raises:
        DataError: the file cannot be read, holds no images, or has fewer rows than requested.
    """
    name = str(path)
    wanted = sorted(set(rows))
    columns = (columns or TableColumns()).model_copy(update={"keep": ()})
    with _parquet(name) as file:
        image = resolve_columns(file.schema_arrow, columns, where=name, texts_required=False).image
        if image is None:
            raise DataError(f"{name} holds no image bytes: its images must be downloaded from their URLs")
        if wanted and not 0 <= wanted[0] <= wanted[-1] < file.metadata.num_rows:
            raise DataError(
                f"{name} has {file.metadata.num_rows} rows, but row {wanted[-1]} is requested: it changed since its "
                "candidates were read, read them again"
            )
        try:
            yield from _wanted_images(file, image, wanted)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{name} is damaged: {one_line(error, LONGEST_MESSAGE)}") from error


def parquet_sizes(path: str | Path, columns: TableColumns) -> list[tuple[int, int]]:
    """Return (rows, stored bytes of the columns that are read, images apart) of each row group of a Parquet table.

    Raises:
        DataError: as `open_table`.
    """
    name = str(path)
    with _parquet(name, in_ranges=True) as file:
        light = resolve_columns(
            file.schema_arrow, columns, where=name, folders=partitions_of(name), texts_required=False
        ).light()
        sizes = []
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            found = [group.column(at) for at in range(group.num_columns)]
            read = (c for c in found if any(f"{c.path_in_schema}.".startswith(f"{column}.") for column in light))
            sizes.append((group.num_rows, sum(column.total_compressed_size for column in read)))
        return sizes


def _check_images(file: pq.ParquetFile, columns: ResolvedColumns, name: str) -> None:
    """Refuse a table whose image column holds no bytes at all, such as a struct with paths only."""
    if columns.image is None or columns.url is not None or file.metadata.num_rows == 0:
        return
    kind = file.schema_arrow.field(file.schema_arrow.names.index(columns.image)).type
    is_struct = pa.types.is_struct(kind)
    path = f"{columns.image}.bytes" if is_struct else columns.image
    untyped = is_struct and pa.types.is_null(kind.field("bytes").type)
    for group in range(0 if untyped else file.num_row_groups):
        row_group = file.metadata.row_group(group)
        found = [row_group.column(at) for at in range(row_group.num_columns)]
        statistics = next((column.statistics for column in found if column.path_in_schema == path), None)
        if statistics is None or statistics.null_count is None or statistics.null_count < row_group.num_rows:
            return
    held = "paths of images without their bytes" if is_struct else "no image bytes"
    raise DataError(
        f"{name}: column {columns.image!r} holds {held}: write the images' bytes into the table, as "
        "Hugging Face's `dataset.to_parquet` embeds them, or give a column of URLs"
    )


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


@contextlib.contextmanager
def _parquet(name: str, *, in_ranges: bool = False) -> Iterator[pq.ParquetFile]:
    with contextlib.ExitStack() as stack:
        if in_ranges and is_remote(name):
            file = pa.PythonFile(stack.enter_context(open_ranges(name)), mode="r")
        else:
            file = stack.enter_context(opened(name))
        try:
            parquet = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{name} is not a readable Parquet file: {one_line(error, LONGEST_MESSAGE)}") from error
        yield parquet


def _parquet_batches(
    name: str, columns: ResolvedColumns, count: Count, part: RowRange | None
) -> Iterator[pa.RecordBatch | int]:
    decoder = TextDecoder()
    with _parquet(name, in_ranges=part is not None) as file:
        part = part or RowRange(0, file.metadata.num_rows)
        yield part.first
        first = 0  # row of the row group
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first < part.end and part.first < first + rows:
                within = RowRange(max(part.first - first, 0), min(part.end - first, rows))
                yield from _group_batches(file, group, columns, count, within, decoder)
            first += rows
    for note in decoder.notes():
        count(GUESSED, 0, note)


def _group_batches(
    file: pq.ParquetFile, group: int, columns: ResolvedColumns, count: Count, within: RowRange, decoder: TextDecoder
) -> Iterator[pa.RecordBatch | int]:
    """Yield rows of a row group, counted from its first; those that cannot be read are counted."""
    done = 0
    try:
        for batch in file.iter_batches(BATCH_ROWS, [group], columns.light(), use_threads=False):
            start, end = max(within.first - done, 0), min(within.end - done, batch.num_rows)
            done += batch.num_rows
            if start < end:
                yield decoder.sound(batch.slice(start, end - start))
            if done >= within.end:
                return
    except (pa.ArrowException, OSError) as error:
        if lost := within.end - max(done, within.first):
            count(DAMAGED_ROWS, lost, f"row group {group}: {one_line(error, LONGEST_MESSAGE)}")
            yield lost


def _table_batch(batch: pa.RecordBatch, first_row: int, columns: ResolvedColumns) -> TableBatch:
    def single(name: str | None) -> pa.StringArray | None:
        if name is None:
            return None
        if name in columns.constants:
            return pa.array([columns.constants[name]] * batch.num_rows, pa.string())
        column = batch.column(name)
        if is_list(column.type):
            return pa.array([next(iter(values), None) for values in column.to_pylist()], pa.string())
        return _as_string(column)

    return TableBatch(
        first_row,
        _texts([batch.column(name) for name in columns.texts], batch.num_rows),
        single(columns.url),
        single(columns.split),
        single(columns.license),
        single(columns.key),
        single(columns.language),
    )


def _texts(columns: list[pa.Array], rows: int = 0) -> pa.ListArray:
    """Return all texts of each row: those of several columns in order, without nulls and blank ones.

    Args:
        rows: their number, where there are no columns.
    """
    if len(columns) == 1:
        return _texts_of(columns[0])
    found: list[list[str]] = [[] for _ in range(len(columns[0]) if columns else rows)]
    for column in columns:
        for row, texts in zip(found, _texts_of(column).to_pylist(), strict=True):
            row.extend(texts)
    return pa.array(found, TEXT_LISTS)


def _texts_of(column: pa.Array) -> pa.ListArray:
    if is_list(column.type) and pa.types.is_null(column.type.value_type):
        return pa.array([[]] * len(column), TEXT_LISTS)
    if is_list(column.type):
        lists = pc.fill_null(column.cast(TEXT_LISTS), pa.scalar([], TEXT_LISTS))
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

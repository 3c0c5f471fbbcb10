"""Read tables of (image, text): Parquet, CSV, TSV and JSON lines, with URLs or with the image bytes.

Batches have all columns except the image bytes, which are read later and only for the requested rows.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from openwit.pipeline.common.column_types import FoundType
from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.readers.tables.batches import TableBatch, table_batch
from openwit.pipeline.readers.tables.columns import ResolvedColumns, is_list, resolve_columns
from openwit.pipeline.readers.tables.files import TEXT_LISTS, format_of, head_of
from openwit.pipeline.readers.tables.kept import declared_types, demands_of, inferred_types
from openwit.pipeline.readers.tables.kept_columns import KeptColumns
from openwit.pipeline.readers.tables.parquet_tables import check_images, open_parquet, parquet_batches
from openwit.pipeline.readers.tables.partitions import partitions_of
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.table_ranges import RowRange, TableRange, TextFacts, TextRange
from openwit.pipeline.readers.tables.text_layout import HEAD_BYTES, text_layout
from openwit.pipeline.readers.tables.text_tables import csv_batches, csv_names, jsonl_batches, jsonl_schema


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
    _kept: KeptColumns = field(default_factory=KeptColumns)

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
            found = table_batch(batch, row, self.columns)
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
        with open_parquet(name, in_ranges=part is not None) as file:
            resolved = resolve_columns(
                file.schema_arrow,
                columns,
                where=name,
                folders=folders,
                texts_required=texts_required,
                images_required=images_required,
            )
            if images_required:
                check_images(file, resolved, name)
        rows = part if isinstance(part, RowRange) else None
        read = functools.partial(parquet_batches, name, resolved, count, rows)
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
    with open_parquet(name, in_ranges=True) as file:
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

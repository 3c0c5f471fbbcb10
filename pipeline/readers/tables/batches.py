"""Make batches of rows of a table: their texts, URLs and other columns of ours, whatever the types in the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.readers.tables.columns import ResolvedColumns, is_list
from openwit.pipeline.readers.tables.files import TEXT_LISTS


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


def table_batch(batch: pa.RecordBatch, first_row: int, columns: ResolvedColumns) -> TableBatch:
    """Return rows of a table as a batch, without kept columns and demands."""

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
        texts_of_rows([batch.column(name) for name in columns.texts], batch.num_rows),
        single(columns.url),
        single(columns.split),
        single(columns.license),
        single(columns.key),
        single(columns.language),
    )


def texts_of_rows(columns: list[pa.Array], rows: int = 0) -> pa.ListArray:
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

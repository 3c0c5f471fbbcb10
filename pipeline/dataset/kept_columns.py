"""Turn the columns that a recipe keeps of its inputs from JSON by text into typed columns by sample."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from openwit.pipeline.common.column_types import type_named
from openwit.pipeline.common.column_values import KEY, UID, decoded, row_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.tables.samples import BY_TEXT


def kept_columns(by_text: pa.Array, offsets: np.ndarray, types: Mapping[str, str]) -> dict[str, pa.Array]:
    """Return the kept columns of samples by name, with `uid` and, if there are any, `columns_by_text`.

    A sample has the values of its first text; where the rows of its other texts hold others, all are in
    `columns_by_text`.

    Args:
        by_text: JSON objects, M, as `openwit.pipeline.common.column_values.rows_as_json` writes them.
        offsets: int (N + 1,): where each sample's texts begin.
        types: name to type.

    Raises:
        DataError: a value has a column whose type is not known.
    """
    texts: list[str | None] = by_text.to_pylist()
    first = [row_of(texts[start]) for start in offsets[:-1].tolist()]
    unknown = {name for row in first for name in row} - {*types, UID, KEY}
    if unknown:
        raise DataError(
            f"the stage of the candidates gives no type for the column {sorted(unknown)[0]!r} that it keeps: "
            "`columns` in the extra of its manifest must name one"
        )
    columns: dict[str, pa.Array] = {UID: pa.array([_text(row.get(UID)) for row in first], pa.string())}
    for name, kind in types.items():
        columns[name] = decoded([row.get(name) for row in first], type_named(kind))
    if types:
        groups = [texts[start:end] for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
        columns[BY_TEXT.name] = pa.array([group if len(set(group)) > 1 else None for group in groups], BY_TEXT.type)
    return columns


def input_keys(by_text: pa.Array, offsets: np.ndarray) -> list[str | None]:
    """Return the key that the input gave each sample, by its first text; None where it gave none."""
    firsts = by_text.take(pa.array(offsets[:-1]))
    return [_text(row_of(text).get(KEY)) for text in firsts.to_pylist()]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

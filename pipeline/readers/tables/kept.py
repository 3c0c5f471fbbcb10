"""Keep columns of tables that are none of ours: find out their types, and write their values as JSON by row.

Parquet files declare types. CSV and JSON lines do not: their columns get the narrowest of whole numbers, numbers,
truth values and text that fits every value of the file, which is read once for it. Text that looks like a number only
when zeros are left out stays text, and so do identifiers (`uid` and keys).
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.common.column_types import FoundType, plain_type
from openwit.pipeline.common.column_values import KEY, UID, rows_as_json
from openwit.pipeline.readers.tables.text_tables import json_column
from openwit.schemas.common.errors import DataError

_PLAIN_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
_TRUTH = ("true", "false", "True", "False", "TRUE", "FALSE")


def declared_types(schema: pa.Schema, kept: Mapping[str, str]) -> dict[str, FoundType]:
    """Return the types of kept columns of a Parquet file."""
    return {name: FoundType(_kept_type(name, schema.field(schema.names.index(at)).type)) for name, at in kept.items()}


def _kept_type(name: str, kind: pa.DataType) -> pa.DataType:
    """Return the type in which values of a column are kept; identifiers are text.

    Raises:
        DataError: they cannot be.
    """
    kind = plain_type(kind)
    if name != UID:
        return kind
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise DataError(f"column {UID!r} holds {kind}, but identifiers of samples are text or numbers: do not keep it")
    return pa.string()


def inferred_types(batches: Any, kept: Mapping[str, str]) -> dict[str, FoundType]:
    """Return the types of kept columns of a text table by all of its values.

    Args:
        batches: of the table, with the columns as `csv_batches` or `jsonl_batches` give them.
        kept: name to the name in the table.
    """
    found = dict.fromkeys(kept, pa.null())
    for batch in batches:
        for name, at in kept.items():
            if pa.types.is_string(found[name]):
                continue
            is_json = json_column(at) in batch.schema.names
            column = batch.column(json_column(at)) if is_json else batch.column(at)
            here = _json_type(column) if is_json else _text_type(column)
            found[name] = _widened(found[name], here)
    return {name: FoundType(pa.string() if name == UID else kind, name != UID) for name, kind in found.items()}


def _text_type(column: pa.Array) -> pa.DataType:
    """Return the narrowest type of the values of a CSV column; empty ones have none."""
    values = pc.drop_null(pc.replace_with_mask(column, pc.equal(column, ""), pa.scalar(None, column.type)))
    if not len(values):
        return pa.null()
    if pc.all(pc.is_in(values, pa.array(_TRUTH))).as_py():
        return pa.bool_()
    plain = pc.match_substring_regex(values, _PLAIN_NUMBER)
    words = pc.is_in(values, pa.array(["nan", "NaN", "inf", "-inf"]))
    if not pc.all(pc.or_(plain, words)).as_py():
        return pa.string()
    for kind in (pa.int64(), pa.float64()):
        try:
            values.cast(kind)
        except pa.ArrowInvalid:
            continue
        return kind
    return pa.string()


def _json_type(column: pa.Array) -> pa.DataType:
    """Return the type of JSON values, text if they have none in common."""
    values = [msgspec.json.decode(value) for value in column.to_pylist() if value is not None]
    try:
        found = pa.array(values).type
    except (pa.ArrowException, OverflowError, TypeError):
        return pa.string()
    return plain_type(found)


def _widened(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other or pa.types.is_null(other):
        return one
    try:
        schemas = [pa.schema([("x", kind)]) for kind in (one, other)]
        kind = pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except (pa.ArrowException, TypeError):
        return pa.string()
    return kind


def kept_json(
    batch: pa.RecordBatch, kept: Mapping[str, str], types: Mapping[str, pa.DataType], key: str | None, own_key: bool
) -> list[str | None]:
    """Return the kept values of each row as JSON, with the input's key.

    Args:
        batch: of a table, as its reader gives it.
        kept: name to the name in the table.
        types: of the columns in the dataset.
        key: column of keys in the table that is carried; None for none.
        own_key: whether it is the uid too.
    """
    names = set(batch.schema.names)
    columns: dict[str, pa.Array] = {}
    for name, at in kept.items():
        kind = types.get(name, pa.string())
        if json_column(at) in names:
            columns[name] = _from_json(batch.column(json_column(at)), kind)
        else:
            columns[name] = _cast(batch.column(at), kind)
    if key is not None:
        column = batch.column(key)
        texts = pc.list_element(column, 0) if pa.types.is_list(column.type) and len(column) else column
        columns[KEY] = texts.cast(pa.string())
        if own_key:
            columns.setdefault(UID, columns[KEY])
    return rows_as_json(columns, batch.num_rows)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the values of a column in the type of the dataset's; empty fields of text tables are no numbers."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_string(column.type) and not pa.types.is_string(kind):
        column = pc.replace_with_mask(column, pc.equal(column, ""), pa.scalar(None, column.type))
        if pa.types.is_boolean(kind):
            column = pc.utf8_lower(column)
    return column.cast(kind)


def _from_json(column: pa.Array, kind: pa.DataType) -> pa.Array:
    values = [None if value is None else msgspec.json.decode(value) for value in column.to_pylist()]
    if pa.types.is_string(kind):
        raw = column.to_pylist()
        texts = [value if value is None or isinstance(value, str) else raw[at] for at, value in enumerate(values)]
        return pa.array(texts, kind)
    return pa.array(values, kind)

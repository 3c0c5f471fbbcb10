"""Keep columns of tables that are none of ours: find out their types, and write their values as JSON by row.

Parquet files declare types. CSV and JSON lines do not: their columns get the type that fits every value of the file
(`openwit.pipeline.common.json_types`), which is read once for it. Text that looks like a number only when zeros are
left out stays text, and so do identifiers (`uid` and keys).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.common.column_types import FoundType, plain_type
from openwit.pipeline.common.column_values import KEY, UID, rows_as_json
from openwit.pipeline.common.json_types import (
    BOOL,
    EXACT,
    INT,
    NULL,
    NUMBER,
    TEXT,
    WIDE,
    JsonType,
    joined,
    joined_type,
    json_type,
    writer_of,
)
from openwit.pipeline.readers.tables.text_tables import json_column
from openwit.schemas.common.errors import DataError, one_line

_PLAIN_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
_WHOLE_NUMBER = r"^-?(0|[1-9][0-9]*)$"
_BAD_UID = f"column {UID!r} holds {{}}, but identifiers of samples are text or numbers: do not keep it"
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
        raise DataError(_BAD_UID.format(kind))
    return pa.string()


def inferred_types(batches: Any, kept: Mapping[str, str]) -> dict[str, FoundType]:
    """Return the types of kept columns of a text table by all of its values.

    Args:
        batches: of the table, with the columns as `csv_batches` or `jsonl_batches` give them.
        kept: name to the name in the table.

    Raises:
        DataError: identifiers are neither texts nor numbers.
    """
    found = dict.fromkeys(kept, NULL)
    for batch in batches:
        for name, at in kept.items():
            if name != UID and found[name].kind in ("text", "mixed") and json_column(at) not in batch.schema.names:
                continue
            if json_column(at) in batch.schema.names:
                values = _json_values(batch.column(json_column(at)))
                if name == UID:
                    check_identifiers(values)
                here = joined_type(map(json_type, values))
            else:
                here = _text_type(batch.column(at))
            found[name] = joined(found[name], here)
    return {name: FoundType(pa.string()) if name == UID else FoundType.read(values) for name, values in found.items()}


def check_identifiers(values: Iterable[Any]) -> None:
    """Refuse JSON values of `uid` that are not texts or numbers.

    Raises:
        DataError: there is one.
    """
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise DataError(_BAD_UID.format(f"{value!r:.60}"))


def _text_type(column: pa.Array) -> JsonType:
    """Return the narrowest type of the values of a CSV column; empty ones have none."""
    values = pc.drop_null(pc.replace_with_mask(column, pc.equal(column, ""), pa.scalar(None, column.type)))
    if not len(values):
        return NULL
    if pc.all(pc.is_in(values, pa.array(_TRUTH))).as_py():
        return BOOL
    plain = pc.match_substring_regex(values, _PLAIN_NUMBER)
    words = pc.is_in(values, pa.array(["nan", "NaN", "inf", "-inf"]))
    if not pc.all(pc.or_(plain, words)).as_py():
        return TEXT
    whole = pc.match_substring_regex(values, _WHOLE_NUMBER)
    try:
        numbers = values.filter(whole).cast(pa.int64())
        values.cast(pa.float64())
    except pa.ArrowInvalid:
        return TEXT
    limits = pc.min_max(numbers).as_py()
    is_wide = len(numbers) > 0 and (limits["min"] < -EXACT or limits["max"] > EXACT)
    if len(numbers) == len(values):
        return WIDE if is_wide else INT
    return TEXT if is_wide else NUMBER


def _json_values(column: pa.Array) -> list[Any]:
    return [None if value is None else msgspec.json.decode(value) for value in column.to_pylist()]


def demands_of(batch: pa.RecordBatch, demands: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what each row demands of its image, as the table has it.

    Args:
        demands: name of the demand to the name in the table.
    """
    names = set(batch.schema.names)
    found: dict[str, list[Any]] = {}
    for name, at in demands.items():
        if json_column(at) in names:
            texts = batch.column(json_column(at)).to_pylist()
            found[name] = [None if text is None else msgspec.json.decode(text) for text in texts]
        else:
            found[name] = batch.column(at).to_pylist()
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def kept_json(
    batch: pa.RecordBatch,
    kept: Mapping[str, str],
    types: Mapping[str, pa.DataType],
    key: str | None,
    own_key: bool,
    where: str = "",
) -> list[str | None]:
    """Return the kept values of each row as JSON, with the input's key.

    Args:
        batch: of a table, as its reader gives it.
        kept: name to the name in the table.
        types: of the columns in the dataset.
        key: column of keys in the table that is carried; None for none.
        own_key: whether it is the uid too.
        where: the table, for messages.

    Raises:
        DataError: the type that a column has in all inputs cannot hold a value.
    """
    names = set(batch.schema.names)
    columns: dict[str, pa.Array | list[Any]] = {}
    for name, at in kept.items():
        kind = types.get(name, pa.string())
        if json_column(at) in names:
            write = writer_of(name, kind)
            columns[name] = [write(value) for value in _json_values(batch.column(json_column(at)))]
        else:
            columns[name] = cast_values(batch.column(at), kind, name, where)
    if key is not None:
        column = batch.column(key)
        texts = pc.list_element(column, 0) if pa.types.is_list(column.type) and len(column) else column
        columns[KEY] = texts.cast(pa.string())
        if own_key:
            columns.setdefault(UID, columns[KEY])
    return rows_as_json(columns, batch.num_rows)


def cast_values(column: pa.Array, kind: pa.DataType, name: str, where: str) -> pa.Array:
    """Return the values of a column in the type of the dataset's; empty fields of text tables are no numbers.

    Raises:
        DataError: the type cannot hold a value.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_string(column.type) and not pa.types.is_string(kind):
        column = pc.replace_with_mask(column, pc.equal(column, ""), pa.scalar(None, column.type))
        if pa.types.is_boolean(kind):
            column = pc.utf8_lower(column)
    try:
        return column.cast(kind)
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(
            f"{where}: column {name!r} holds a value that {kind}, its type in all inputs, cannot hold "
            f"({one_line(error)}): write it alike in all inputs, or do not keep it"
        ) from error

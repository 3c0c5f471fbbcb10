"""Write the values of a user's columns as JSON, one object per row, and read them back with their types.

JSON has neither infinity nor dates nor bytes: numbers that are not finite are written as `"NaN"`, `"Infinity"` and
`"-Infinity"`, points in time as whole numbers of their unit, decimals as text, and bytes in base64.
"""

import base64
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.common.column_types import is_any_list, plain_type

KEY = "__key__"
"""Name under which the input's key of a row travels."""
BLUR, MD5, SHA256 = "__blur__", "__md5__", "__sha256__"
"""Names under which travels what a row demands of its image: boxes to blur, checksums that it must have."""
TRAVELLING = frozenset((KEY, BLUR, MD5, SHA256))
"""Names that no column of an input keeps."""
UID = "uid"
"""Name under which the input's own identifier of a pair travels."""

_ENCODE = msgspec.json.Encoder(order="sorted").encode
_DECODE = msgspec.json.Decoder(dict[str, Any]).decode


def rows_as_json(columns: Mapping[str, pa.Array | list[Any]], rows: int) -> list[str | None]:
    """Return each row's values as a JSON object with sorted keys, without nulls; None for a row that has none.

    Args:
        columns: name to N values, or to what `encoded` gives for them.
        rows: N.
    """
    found: list[dict[str, Any]] = [{} for _ in range(rows)]
    for name, values in columns.items():
        for row, value in zip(found, values if isinstance(values, list) else encoded(values), strict=True):
            if value is not None:
                row[name] = value
    return [json_row(row) for row in found]


def json_row(row: Mapping[str, Any]) -> str | None:
    """Return the values of a row, which JSON can hold, as an object with sorted keys; None for no values."""
    return _ENCODE(row).decode() if row else None


def row_of(text: str | None) -> dict[str, Any]:
    """Return the object that `rows_as_json` wrote for a row: values as JSON has them."""
    return {} if text is None else _DECODE(text)


def encoded(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values of an array as JSON can hold them."""
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if isinstance(array, pa.ExtensionArray):
        return encoded(array.storage)
    kind = array.type
    if (
        plain_type(kind) != kind
        and not pa.types.is_map(kind)
        and not is_any_list(kind)
        and not pa.types.is_struct(kind)
    ):
        return encoded(array.cast(plain_type(kind)))
    if pa.types.is_floating(kind):
        return _encoded_numbers(array)
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return encoded(array.cast(pa.int32()))
    if pa.types.is_temporal(kind):
        return encoded(array.cast(pa.int64()))
    if pa.types.is_decimal(kind):
        return encoded(array.cast(pa.string()))
    if pa.types.is_binary(kind):
        return [None if value is None else base64.b64encode(value).decode() for value in array.to_pylist()]
    if is_any_list(kind) or pa.types.is_map(kind):
        return _encoded_lists(array)
    if pa.types.is_struct(kind):
        fields = [encoded(pc.struct_field(array, [number])) for number in range(kind.num_fields)]
        names = [field.name for field in kind]
        rows = zip(*fields, strict=True) if fields else itertools.repeat((), len(array))
        valid = array.is_valid().to_pylist()
        return [dict(zip(names, row, strict=True)) if there else None for row, there in zip(rows, valid, strict=True)]
    values: list[Any] = array.to_pylist()
    return values


def _encoded_numbers(array: pa.Array) -> list[Any]:
    values: list[Any] = array.to_pylist()
    if pc.all(pc.is_finite(array)).as_py() is not False:
        return values
    names = {math.inf: "Infinity", -math.inf: "-Infinity"}
    return [value if value is None or math.isfinite(value) else names.get(value, "NaN") for value in values]


def _encoded_lists(array: pa.Array) -> list[Any]:
    if pa.types.is_map(array.type):
        kind = pa.list_(pa.struct([("key", array.type.key_type), ("value", array.type.item_type)]))
        array = array.cast(kind)
    array = array.cast(pa.list_(array.type.value_type)) if not pa.types.is_list(array.type) else array
    lengths = pc.list_value_length(array).to_pylist()
    flat = iter(encoded(array.flatten()))
    return [None if length is None else list(itertools.islice(flat, length)) for length in lengths]


def decoded(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return values that `encoded` gave as an array of their type; of a type that `plain_type` returned."""
    if pa.types.is_floating(kind):
        return pa.array([float(value) if isinstance(value, str) else value for value in values], kind)
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return pa.array(values, pa.int32()).cast(kind)
    if pa.types.is_temporal(kind):
        return pa.array(values, pa.int64()).cast(kind)
    if pa.types.is_decimal(kind):
        return pa.array(values, pa.string()).cast(kind)
    if pa.types.is_binary(kind):
        return pa.array([None if value is None else base64.b64decode(value) for value in values], kind)
    missing = pa.array([value is None for value in values], pa.bool_())
    if pa.types.is_list(kind):
        ends = list(itertools.accumulate((len(value or ()) for value in values), initial=0))
        flat = decoded(list(itertools.chain.from_iterable(value or () for value in values)), kind.value_type)
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat, type=kind, mask=missing)
    if pa.types.is_struct(kind):
        fields = list(kind)
        arrays = [decoded([(value or {}).get(field.name) for value in values], field.type) for field in fields]
        return pa.StructArray.from_arrays(arrays, fields=fields, mask=missing)
    return pa.array(values, kind)

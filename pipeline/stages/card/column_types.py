"""Name the types of a dataset's columns as Hugging Face's `datasets` and Croissant name them."""

from typing import Any

import pyarrow as pa

Feature = dict[str, Any]


def feature(name: str, kind: pa.DataType) -> Feature:
    """Return a column as an entry of `features` in the YAML header of a Hugging Face README."""
    return {"name": name, **_feature_type(kind)}


def _feature_type(kind: pa.DataType) -> Feature:
    if _is_list(kind):
        inner = _feature_type(kind.value_type)
        return {"list": inner["dtype"] if set(inner) == {"dtype"} else inner}
    if pa.types.is_struct(kind):
        return {"struct": [feature(field.name, field.type) for field in kind]}
    if pa.types.is_boolean(kind):
        return {"dtype": "bool"}
    if pa.types.is_floating(kind):
        return {"dtype": {16: "float16", 32: "float32"}.get(kind.bit_width, "float64")}
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return {"dtype": "string"}
    return {"dtype": str(kind)}


def json_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column's values have in the `.json` member of a sample: what JSON lacks is text there."""
    if _is_list(kind):
        return pa.list_(json_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, json_type(field.type)) for field in kind])
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return kind
    return pa.string()


def type_of_value(value: Any) -> pa.DataType:
    """Return the type of a JSON value that is in no column; text if its type is not clear."""
    try:
        found = pa.array([value]).type
    except (pa.ArrowException, TypeError):
        return pa.string()
    return pa.string() if pa.types.is_null(found) else found


def croissant_type(kind: pa.DataType) -> tuple[str, bool]:
    """Return the data type of a column in Croissant, and whether it repeats; lists of lists repeat too."""
    if _is_list(kind):
        return croissant_type(kind.value_type)[0], True
    if pa.types.is_boolean(kind):
        return "sc:Boolean", False
    if pa.types.is_integer(kind):
        return "sc:Integer", False
    if pa.types.is_floating(kind):
        return "sc:Float", False
    return ("sc:Date" if pa.types.is_temporal(kind) else "sc:Text"), False


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))

"""Find the type that holds JSON values which declare none, and write values in the type of their column.

The rule does not depend on the order of values or of files. Whole numbers are int64, and numbers of which some have a
fraction are doubles; null fits every type; lists join the types of their items, and objects the union of their fields,
by name. Everything else has no type in common (a number beside a text, whole numbers beyond 2^53 beside fractions,
which a double would change, numbers beyond 64 bits, objects nested deeper than 8 or with more than 200 fields): such
a column is text, in which texts are as they are and other values are JSON.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import pyarrow as pa

from openwit.schemas.common.errors import DataError

Kind = Literal["null", "bool", "int", "wide", "number", "text", "mixed", "list", "object"]
EXACT = 1 << 53
"""Whole numbers up to it are doubles without a change."""
_LARGEST = 1 << 63
_DEPTH, _FIELDS = 8, 200


@dataclass(frozen=True)
class JsonType:
    """The type of JSON values.

    Attributes:
        kind: of all; `wide` are whole numbers of which some are beyond 2^53, `mixed` have no type in common.
        items: of lists.
        fields: of objects, by name.
    """

    kind: Kind
    items: "JsonType | None" = None
    fields: dict[str, "JsonType"] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of fields, those of nested objects included."""
        return sum(1 + len(each) for each in self.fields.values()) + (0 if self.items is None else len(self.items))

    def __bool__(self) -> bool:
        return True


NULL, BOOL, INT, WIDE = JsonType("null"), JsonType("bool"), JsonType("int"), JsonType("wide")
NUMBER, TEXT, MIXED = JsonType("number"), JsonType("text"), JsonType("mixed")
_NUMBERS = ("int", "wide", "number")


def json_type(value: Any, depth: int = 0) -> JsonType:
    """Return the type of a value as JSON decoders give it.

    Raises:
        TypeError: JSON has no such value.
    """
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return (INT if abs(value) <= EXACT else WIDE) if -_LARGEST <= value < _LARGEST else MIXED
    if isinstance(value, float):
        return NUMBER
    if isinstance(value, str):
        return TEXT
    if not isinstance(value, list | tuple | dict):
        raise TypeError(type(value).__name__)
    if isinstance(value, dict):
        if bad := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"mapping with the key {bad[0]!r}")
        fields = {name: json_type(each, depth + 1) for name, each in value.items()}
        found = JsonType("object", None, fields)
        parts: Iterable[JsonType] = fields.values()
    else:
        items = joined_type(json_type(each, depth + 1) for each in value)
        found = JsonType("list", items)
        parts = (items,)
    is_mixed = depth >= _DEPTH or len(found) > _FIELDS or any(part.kind == "mixed" for part in parts)
    return MIXED if is_mixed else found


def joined_type(types: Iterable[JsonType]) -> JsonType:
    """Return the type that holds the values of all."""
    found = NULL
    for each in types:
        found = found if each is found else joined(found, each)
    return found


def joined(one: JsonType, other: JsonType) -> JsonType:
    """Return the type that holds the values of both."""
    if other.kind == "null" or one == other:
        return one
    if one.kind == "null":
        return other
    kinds = {one.kind, other.kind}
    if kinds <= set(_NUMBERS):
        return WIDE if kinds == {"int", "wide"} else NUMBER if kinds == {"int", "number"} else MIXED
    if kinds == {"list"}:
        items = joined(one.items or NULL, other.items or NULL)
        return MIXED if items.kind == "mixed" else JsonType("list", items)
    if kinds != {"object"}:
        return MIXED
    fields = {
        name: joined(one.fields.get(name, NULL), other.fields.get(name, NULL))
        for name in dict.fromkeys((*one.fields, *other.fields))
    }
    found = JsonType("object", None, fields)
    return MIXED if len(found) > _FIELDS or any(each.kind == "mixed" for each in fields.values()) else found


def arrow_type(found: JsonType) -> pa.DataType:
    """Return the Arrow type of values of a type; what holds nothing but null is null, inside of others text."""
    return pa.string() if _has_empty_object(found) else _arrow_type(found)


def _has_empty_object(found: JsonType) -> bool:
    """Return whether a type has objects without fields, which Parquet cannot hold."""
    if found.kind == "object":
        return not found.fields or any(map(_has_empty_object, found.fields.values()))
    return found.items is not None and _has_empty_object(found.items)


def _arrow_type(found: JsonType, inner: bool = False) -> pa.DataType:
    if found.kind == "list":
        return pa.list_(_arrow_type(found.items or NULL, inner=True))
    if found.kind == "object":
        return pa.struct([(name, _arrow_type(found.fields[name], inner=True)) for name in sorted(found.fields)])
    plain = {"bool": pa.bool_(), "int": pa.int64(), "wide": pa.int64(), "number": pa.float64()}
    return plain.get(found.kind, pa.null() if found.kind == "null" and not inner else pa.string())


def read_type(kind: pa.DataType) -> JsonType:
    """Return the type of values for which `arrow_type` gave an Arrow type, as far as it tells."""
    if pa.types.is_null(kind):
        return NULL
    if pa.types.is_boolean(kind):
        return BOOL
    if pa.types.is_integer(kind):
        return INT
    return NUMBER if pa.types.is_floating(kind) else TEXT if pa.types.is_string(kind) else MIXED


def writer_of(name: str, kind: pa.DataType) -> Callable[[Any], Any]:
    """Return a function that turns JSON values of a column into JSON values of its Arrow type; null stays null.

    The function raises DataError for a value that the type cannot hold, which none has by which the type was found.
    """
    write = _writer(kind)

    def written(value: Any) -> Any:
        try:
            return None if value is None else write(value)
        except (TypeError, AttributeError) as error:
            raise DataError(
                f"column {name!r} holds {value!r:.80}, which is not {kind}: the input has changed since its columns "
                "were looked at, run the command again"
            ) from error

    return written


def _writer(kind: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_list(kind):
        item = _writer(kind.value_type)
        return lambda value: [None if each is None else item(each) for each in _checked(value, (list, tuple))]
    if pa.types.is_struct(kind):
        fields = [(field.name, _writer(field.type)) for field in kind]
        return lambda value: {
            name: None if (each := value.get(name)) is None else write(each)
            for name, write in fields
            if _checked(value, (dict,)) is not None
        }
    if pa.types.is_floating(kind):
        return _number
    if pa.types.is_string(kind):
        return lambda value: value if isinstance(value, str) else msgspec.json.encode(_plain(value)).decode()
    wanted = (bool,) if pa.types.is_boolean(kind) else (int,)
    return lambda value: _checked(value, wanted)


def _checked(value: Any, kinds: tuple[type, ...]) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(type(value).__name__)
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(type(value).__name__)
    number = float(value)
    return number if math.isfinite(number) else "NaN" if math.isnan(number) else f"{'-' * (number < 0)}Infinity"


def _plain(value: Any) -> Any:
    """Return a value as JSON of any size can show it: numbers beyond 64 bits too."""
    if isinstance(value, int) and not isinstance(value, bool) and not -_LARGEST <= value < 1 << 64:
        return msgspec.Raw(str(value).encode())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, dict) else value

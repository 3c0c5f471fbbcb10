"""Name the Arrow types of columns that a user's table has beyond ours, read the names back, and join those of inputs.

A name is Arrow's own for plain types (`int64`, `timestamp[us, tz=UTC]`, `decimal128(10, 2)`), `list<T>` for lists, and
`struct<"NAME": T, …>` with names as JSON for structs.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from openwit.pipeline.common.json_types import JsonType, arrow_type, joined, read_type
from openwit.schemas.common.errors import DataError

COLUMNS = "columns"
"""Key in `extra` of the manifest of candidates: the type of each column that is kept of the inputs, by its name."""
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=([^\]]+))?\]")
_DECIMAL = re.compile(r"decimal(32|64|128|256)\((\d+), (-?\d+)\)")
_JSON = json.JSONDecoder()


class FoundType(NamedTuple):
    """The type of a column of one input.

    Attributes:
        type: of its values.
        inferred: whether it was read off values, since CSV and JSON declare none.
        values: what was read off them; null for what `type` tells.
    """

    type: pa.DataType
    inferred: bool = False
    values: JsonType | None = None

    @classmethod
    def read(cls, values: JsonType) -> "FoundType":
        """Return the type of values that declare none."""
        return cls(arrow_type(values), True, values)

    @property
    def json(self) -> JsonType:
        """Return the type as that of JSON values."""
        return self.values or read_type(self.type)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which values of a type are kept: one layout of texts, bytes and lists, without encodings."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_map(kind):
        return pa.list_(pa.struct([("key", plain_type(kind.key_type)), ("value", plain_type(kind.item_type))]))
    if is_any_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, plain_type(field.type)) for field in kind])
    return kind


def is_any_list(kind: pa.DataType) -> bool:
    """Return whether a type is a list of any layout."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
             pa.types.is_large_list_view)  # fmt: skip
    return any(test(kind) for test in tests)


def type_name(kind: pa.DataType) -> str:
    """Return the name of a type that `plain_type` returned."""
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{json.dumps(field.name)}: {type_name(field.type)}' for field in kind)}>"
    return str(kind)


def type_named(name: str) -> pa.DataType:
    """Return the type of a name that `type_name` gave.

    Raises:
        DataError: it is none.
    """
    try:
        kind, rest = _parse(name)
    except (ValueError, KeyError) as error:
        raise DataError(f"{name!r} is not a type of a column: {error}") from error
    if rest:
        raise DataError(f"{name!r} is not a type of a column: it goes on with {rest!r}")
    return kind


def _parse(text: str) -> tuple[pa.DataType, str]:
    if text.startswith("list<"):
        kind, rest = _parse(text[5:])
        return pa.list_(kind), _after(rest, ">")
    if text.startswith("struct<"):
        fields, rest = [], text[7:]
        while not rest.startswith(">"):
            name, end = _JSON.raw_decode(rest)
            kind, rest = _parse(_after(rest[end:], ": "))
            fields.append(pa.field(name, kind))
            rest = rest.removeprefix(", ")
        return pa.struct(fields), rest[1:]
    if found := _TIMESTAMP.match(text):
        return pa.timestamp(found[1], found[2]), text[found.end() :]
    if found := _DECIMAL.match(text):
        return getattr(pa, f"decimal{found[1]}")(int(found[2]), int(found[3])), text[found.end() :]
    name = re.match(r"[a-z0-9]+(\[[a-z]+\])?", text)
    if name is None:
        raise ValueError(f"no type begins with {text!r}")
    return pa.type_for_alias(name[0]), text[name.end() :]


def _after(text: str, mark: str) -> str:
    if not text.startswith(mark):
        raise ValueError(f"{mark!r} is missing before {text!r}")
    return text[len(mark) :]


def columns_of(records: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Return the columns that stages of candidates kept, by name and type.

    Args:
        records: name of a step, and `extra` of its manifest.

    Raises:
        DataError: two steps keep a column with types that do not go together.
    """
    listed = [(name, extra[COLUMNS]) for name, extra in records if extra.get(COLUMNS)]
    if len(listed) == 1:
        return dict(listed[0][1])
    every = [(name, {at: FoundType(type_named(kind)) for at, kind in types.items()}) for name, types in listed]
    return joined_types(every, setting="candidates.columns.keep", written=True)


def joined_types(
    inputs: Iterable[tuple[str, Mapping[str, FoundType]]], *, setting: str, written: bool = False
) -> dict[str, str]:
    """Return the names of the types that hold the values of every input, by column.

    Args:
        inputs: each with its name, for messages.
        setting: that names the columns, for messages.
        written: whether values are written as JSON already, with times as numbers of their unit.

    Raises:
        DataError: a column has types in two inputs that do not go together.
    """
    found: dict[str, tuple[str, FoundType]] = {}
    for where, columns in inputs:
        for name, here in columns.items():
            first, before = found.setdefault(name, (where, here))
            wider = _wider(before, here, written=written)
            if wider is None:
                raise DataError(
                    f"column {name!r} is {type_name(before.type)} in {first}, but {type_name(here.type)} in {where}: "
                    f"write it alike in both, or leave it out of {setting}"
                )
            found[name] = (first, wider)
    return {name: type_name(_or_text(found[name][1].type)) for name in sorted(found)}


def _or_text(kind: pa.DataType) -> pa.DataType:
    """Return text for a column that holds nothing in any input."""
    return pa.string() if pa.types.is_null(kind) else kind


def _wider(one: FoundType, other: FoundType, *, written: bool) -> FoundType | None:
    """Return the type that holds the values of both, each as it is; None if there is none."""
    a, b = one.type, other.type
    if one.inferred and other.inferred:
        return FoundType.read(joined(one.json, other.json))
    if a == b or pa.types.is_null(b):
        return FoundType(a)
    if pa.types.is_null(a):
        return FoundType(b)
    families = [pa.types.is_signed_integer, pa.types.is_unsigned_integer, pa.types.is_floating, pa.types.is_decimal]
    families += [] if written else [pa.types.is_timestamp]
    if any(test(a) and test(b) for test in families):
        try:
            schemas = [pa.schema([("x", kind)]) for kind in (a, b)]
            return FoundType(pa.unify_schemas(schemas, promote_options="permissive").field("x").type)
        except (pa.ArrowException, TypeError):
            return None
    # A number that was read off text is what the table with types says that it is.
    if one.inferred != other.inferred:
        declared, read = (other, one) if one.inferred else (one, other)
        fits = read.json.kind == "int" and pa.types.is_floating(declared.type)
        return declared if fits or pa.types.is_string(declared.type) else None
    return None

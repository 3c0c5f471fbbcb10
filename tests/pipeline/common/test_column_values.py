"""Values of any column come back equal from JSON, whatever their type; types come back from their names."""

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.common.column_types import FoundType, columns_of, joined_types, plain_type, type_name, type_named
from openwit.pipeline.common.column_values import decoded, encoded, row_of, rows_as_json
from openwit.schemas.common.errors import DataError

TIMES = [pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.timestamp("s", "Europe/Paris"), pa.date32(), pa.date64(),
         pa.time32("ms"), pa.time64("ns"), pa.duration("us")]  # fmt: skip
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=4)


def leaves():
    """Types without parts, each with its values."""
    text = st.text(st.characters(codec="utf-8"), max_size=5)
    plain = [
        (pa.int8(), st.integers(-128, 127)),
        (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pa.uint64(), st.integers(0, 2**64 - 1)),
        (pa.float64(), st.floats()),
        (pa.float32(), st.floats(width=32)),
        (pa.bool_(), st.booleans()),
        (pa.string(), text),
        (pa.large_string(), text),
        (pa.binary(), st.binary(max_size=5)),
        (pa.binary(3), st.binary(min_size=3, max_size=3)),
        (pa.decimal128(12, 3), st.decimals(-(10**6), 10**6, places=3)),
        (pa.dictionary(pa.int8(), pa.string()), text),
    ]
    times = [(kind, st.just(86_400_000 if pa.types.is_date64(kind) else 1_234)) for kind in TIMES]
    return st.sampled_from([*plain, *times])


def deeper(children):
    lists = children.map(lambda of: (pa.list_(of[0]), st.lists(st.none() | of[1], max_size=3)))
    large = children.map(lambda of: (pa.large_list(of[0]), st.lists(st.none() | of[1], max_size=3)))
    structs = st.dictionaries(NAMES, children, min_size=1, max_size=3).map(
        lambda of: (
            pa.struct([(name, kind) for name, (kind, _) in of.items()]),
            st.fixed_dictionaries({name: st.none() | values for name, (_, values) in of.items()}),
        )
    )
    return lists | large | structs


def made(kind, values):
    """Return an array of a type; times are given as numbers."""
    return pa.array(values, kind)


@settings(max_examples=60)
@given(st.recursive(leaves(), deeper, max_leaves=4), st.data())
def test_values_of_every_type_come_back_equal(of, data):
    kind, values = of
    array = made(kind, data.draw(st.lists(st.none() | values, max_size=4)))
    plain = plain_type(kind)
    assert type_named(type_name(plain)) == plain
    rows = rows_as_json({"x": array}, len(array))
    found = decoded([row_of(row).get("x") for row in rows], plain)
    found.validate(full=True)
    again = decoded(encoded(found), plain)
    assert same(found, array)
    assert same(again, array)


def same(found, array):
    return all(equal(a, b) for a, b in zip(values_of(found), values_of(array), strict=True))


def values_of(array):
    kind = array.type
    if pa.types.is_temporal(kind):
        return [None if value is None else value.value for value in map(scalar_or_none, array)]
    if pa.types.is_struct(kind):
        parts = [values_of(part) for part in array.flatten()]
        return [
            list(row) if ok.as_py() else None
            for row, ok in zip(zip(*parts, strict=True), array.is_valid(), strict=True)
        ]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [None if value.values is None else values_of(value.values) for value in array]
    return array.to_pylist()


def scalar_or_none(scalar):
    return scalar if scalar.is_valid else None


def equal(a, b):
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def test_a_row_without_values_is_none_and_keys_are_sorted():
    columns = {"b": pa.array([1, None]), "a": pa.array([math.inf, None])}
    assert rows_as_json(columns, 2) == ['{"a":"Infinity","b":1}', None]


@pytest.mark.parametrize(
    ("kinds", "joined"),
    [
        ([pa.int32(), pa.int64()], "int64"),
        ([pa.null(), pa.int64(), pa.null()], "int64"),
        ([pa.null()], "string"),
        ([pa.float32(), pa.float64()], "double"),
        ([pa.timestamp("ms"), pa.timestamp("us")], "timestamp[us]"),
        ([FoundType(pa.int64(), True), FoundType(pa.float64(), True)], "double"),
        ([FoundType(pa.int64(), True), FoundType(pa.bool_(), True)], "string"),
        ([pa.float32(), FoundType(pa.int64(), True)], "float"),
        ([FoundType(pa.int64(), True), pa.string()], "string"),
        ([pa.int64(), pa.string()], None),
        ([pa.int64(), pa.float64()], None),
        ([pa.timestamp("us"), pa.timestamp("us", "UTC")], None),
        ([pa.int64(), FoundType(pa.string(), True)], None),
    ],
    ids=str,
)
def test_types_of_inputs_are_joined_or_refused(kinds, joined):
    found = [kind if isinstance(kind, FoundType) else FoundType(kind) for kind in kinds]
    inputs = [(f"{n}.parquet", {"a": kind}) for n, kind in enumerate(found)]
    if joined is None:
        with pytest.raises(
            DataError, match=r"column 'a' is .* in 0.parquet, but .* in 1.parquet: write it alike in both"
        ):
            joined_types(inputs, setting="candidates.columns.keep")
    else:
        assert joined_types(inputs, setting="candidates.columns.keep") == {"a": joined}


def test_steps_that_wrote_times_in_two_units_are_refused():
    steps = [(name, {"columns": {"a": kind}}) for name, kind in (("old", "timestamp[ms]"), ("new", "timestamp[us]"))]
    with pytest.raises(DataError, match=r"column 'a' is timestamp\[ms\] in old, but timestamp\[us\] in new"):
        columns_of(steps)
    assert columns_of([("old", {"columns": {"a": "int8"}}), ("x", {}), ("new", {"columns": {"a": "int64"}})]) == {
        "a": "int64"
    }
    assert columns_of([]) == {}


@pytest.mark.parametrize("name", ["", "list<int64", "struct<a: int64>", "int64 x", "nothing", 'struct<"a"; int64>'])
def test_what_is_no_type_is_refused(name):
    with pytest.raises(DataError, match="is not a type of a column"):
        type_named(name)

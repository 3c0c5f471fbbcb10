"""The type of JSON values does not depend on their order, and every value comes back as the rule says."""

import itertools
import json

import pyarrow as pa
import pytest

from openwit.pipeline.common.column_types import FoundType, joined_types
from openwit.pipeline.common.column_values import decoded, encoded
from openwit.pipeline.common.json_types import arrow_type, joined_type, json_type, writer_of
from openwit.schemas.common.errors import DataError

BIG = 2**53 + 1
DEEP = [[[[[[[[[[1]]]]]]]]]]
CASES = [
    ([1, 2, None], "int64", [1, 2, None]),
    ([1, 1.5], "double", [1.0, 1.5]),
    ([BIG, 1], "int64", [BIG, 1]),
    ([BIG, 1.5, 1], "string", [str(BIG), "1.5", "1"]),
    ([2**63, 1], "string", [str(2**63), "1"]),
    ([2**70, -(2**70)], "string", [str(2**70), str(-(2**70))]),
    ([True, False], "bool", [True, False]),
    ([True, 1], "string", ["true", "1"]),
    (["a", 1, [2]], "string", ["a", "1", "[2]"]),
    ([None, None], "null", [None, None]),
    ([[], None], "list<item: string>", [[], None]),
    ([[1], [1.5, None]], "list<item: double>", [[1.0], [1.5, None]]),
    ([[1], ["x"]], "string", ["[1]", '["x"]']),
    ([[BIG], [1.5]], "string", [f"[{BIG}]", "[1.5]"]),
    ([[1], {"a": 1}], "string", ["[1]", '{"a":1}']),
    ([{}, {}], "string", ["{}", "{}"]),
    (
        [{"b": 1}, {"a": "x", "b": None}],
        "struct<a: string, b: int64>",
        [{"a": None, "b": 1}, {"a": "x", "b": None}],
    ),
    ([{"a": {"b": {}}}, 1], "string", ['{"a":{"b":{}}}', "1"]),
    ([DEEP], "string", [json.dumps(DEEP)]),
    ([{f"k{n}": n for n in range(300)}], "string", [json.dumps({f"k{n}": n for n in range(300)}).replace(" ", "")]),
]


@pytest.mark.parametrize(("values", "kind", "expected"), CASES)
def test_types_are_those_of_all_values_in_any_order(values, kind, expected):
    for order in itertools.permutations(range(len(values))):
        found = joined_type(json_type(values[at]) for at in order)
        assert str(arrow_type(found)) == kind
        # Files are joined two and two: whatever each held.
        inputs = [(str(at), {"a": FoundType.read(json_type(values[at]))}) for at in order]
        name = joined_types(inputs, setting="keep")["a"]
        assert name == ("string" if kind == "null" else name)
    into = pa.string() if kind == "null" else arrow_type(found)
    written = [writer_of("a", into)(value) for value in values]
    assert decoded(written, into).to_pylist() == expected
    assert encoded(decoded(written, into)) == written or "struct" in kind


def test_what_the_type_cannot_hold_is_a_sentence():
    for value, kind in (
        ("x", pa.int64()),
        (True, pa.int64()),
        ([1], pa.struct([("a", pa.int64())])),
        ("1", pa.float64()),
    ):
        with pytest.raises(DataError, match="column 'a' holds .* changed since its columns were looked at"):
            writer_of("a", kind)(value)
    wide = FoundType.read(json_type(BIG))
    with pytest.raises(DataError, match="column 'a' is double in 1, but int64 in 2"):
        joined_types([("1", {"a": FoundType(pa.float64())}), ("2", {"a": wide})], setting="keep")
    assert writer_of("a", pa.float64())(float("inf")) == "Infinity"

"""JSON of lax writers is read; valid JSON gives the same value as a strict reader."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.schemas.common.lenient_json import lenient_json


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a": NaN, "b": "x"}', {"a": None, "b": "x"}),
        (b'{"a": [Infinity, -Infinity, 1]}', {"a": [None, None, 1]}),
        (rb'{"a": "x\ud83d"}', {"a": "x"}),
        (rb'{"a\udc36": "x"}', {"a": "x"}),
        (b'\xef\xbb\xbf{"a": "x"}', {"a": "x"}),
        (b'{"a": "caf\xe9"}', {"a": "caf"}),
        (b'{"a": "\xef\xbf\xbd", "b": NaN}', {"a": "\ufffd", "b": None}),
        (b'{"a": "tab\there"}', {"a": "tab\there"}),
        (rb'{"a": "\ud83d\udc36"}', {"a": "🐶"}),
        (b"not json", None),
        (b'{"a": ', None),
        (b"", None),
        (b"[" * 100_000, None),
        (b"1" * 5_000, None),
    ],
)
def test_what_lax_writers_write(raw, value):
    found, problem = lenient_json(raw)
    assert found == value or (value is None and isinstance(found, int | float))
    assert "\n" not in problem


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_valid_json_is_as_it_is(value):
    assert lenient_json(json.dumps(value).encode()) == (value, "")
    assert lenient_json(json.dumps(value, ensure_ascii=False).encode("utf-8")) == (value, "")


@given(st.binary(max_size=60))
def test_anything_ends_in_a_value_or_a_problem(raw):
    value, problem = lenient_json(raw)
    assert value is None or json.dumps(value, ensure_ascii=False).encode() is not None
    assert isinstance(problem, str)

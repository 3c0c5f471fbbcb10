"""The pieces of the card: marked texts, histograms, ranks, curves."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.stages.card.balance import curve
from openwit.pipeline.stages.card.figures import byte_size, percent, short_number
from openwit.pipeline.stages.card.histograms import (
    SHAPE_LABELS,
    edge_labels,
    histogram,
    holding_half,
    shapes,
    spread,
)
from openwit.pipeline.stages.card.plots import curve_svg
from openwit.pipeline.stages.card.samples import spread_ranks
from openwit.pipeline.stages.card.texts import clip, marked, web_address
from openwit.pipeline.stages.card.thumbnails import picture_uri
from openwit.pipeline.text.normalise import normalise


@pytest.mark.parametrize(
    ("text", "query", "found"),
    [
        ("A Red Kite, red-kite and redkite", "red kite", ["Red Kite", "red-kite"]),
        ("CAFÉ crème", "café", ["CAFÉ"]),
        ("Das große Haus", "grosse", ["große"]),
        ("猫の写真です", "写真", ["写真"]),
        ("don't", "don t", ["don't"]),
        ("a a a", "a a", ["a a"]),
        ("nothing", "wren", []),
        ("the U.S. capitol", "u s", ["U.S"]),
        ("Cat/Dog", "Cat/Dog", ["Cat/Dog"]),
    ],
)
def test_the_query_is_marked_where_it_stands(text, query, found):
    parts = marked(text, query)
    assert [part for part, hit in parts if hit] == found
    assert "".join(part for part, _ in parts) == text


@given(st.text(max_size=80), st.text(max_size=12))
def test_marking_loses_nothing_and_marks_only_the_query(text, query):
    line = " ".join(text.split())
    parts = marked(text, normalise(query), limit=200)
    assert "".join(part for part, _ in parts) == line
    assert all(normalise(part) == normalise(query) for part, hit in parts if hit and normalise(part))


@given(st.text(max_size=400), st.integers(1, 50))
def test_a_clipped_text_is_no_longer_than_asked(text, limit):
    assert len(clip(text, limit)) <= limit
    assert len("".join(part for part, _ in marked(text, "", limit))) <= limit + 2


def test_only_web_addresses_become_links():
    assert web_address("https://a.org/b?c=d") == "https://a.org/b?c=d"
    for url in ("javascript:alert(1)", "data:text/html,x", "table:a#1", "", None, "http://a b", " http://a"):
        assert web_address(url) is None


def test_shapes():
    widths = np.array([100, 100, 640, 1600, 1920, 427, 1000, 90, 3000])
    heights = np.array([100, 96, 427, 1200, 1080, 640, 500, 900, 1000])
    counts = dict(zip(SHAPE_LABELS, shapes(widths, heights).tolist(), strict=True))
    assert {label: n for label, n in counts.items() if n} == {
        "square (within 5 %)": 2, "landscape, about 3:2": 1, "landscape, about 4:3": 1, "landscape, about 16:9": 1,
        "portrait, about 3:2": 1, "landscape, about 2:1": 1, "portrait, beyond 5:2": 1, "landscape, beyond 5:2": 1,
    }  # fmt: skip


@given(st.lists(st.integers(0, 500), min_size=1, max_size=60))
def test_spread_is_that_of_the_sorted_values(values):
    counts = {value: values.count(value) for value in set(values)}
    facts, ranked = spread(counts), sorted(values)
    assert (facts["min"], facts["max"]) == (ranked[0], ranked[-1])
    assert facts["median"] == ranked[(len(ranked) - 1) // 2]
    assert histogram(np.array(values), (0, 10, 100)).sum() == len(values)


def test_labels_of_classes():
    assert edge_labels((0, 1, 3, 10)) == ["0", "1–2", "3–9", "10+"]


def test_how_many_names_hold_half():
    assert holding_half({}) == 0
    assert holding_half({"a": 1}) == 1
    assert holding_half({"a": 5, "b": 5}) == 1
    assert holding_half({"a": 4, "b": 3, "c": 3}) == 2


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=40), st.integers(0, 12))
def test_queries_are_spread_over_all_ranks(counts, n):
    pool = np.array([a for a, _ in counts], np.int64)
    held = np.array([min(a, b) for a, b in counts], np.int64)
    chosen = spread_ranks(pool, held, n)
    assert len(chosen) == len(set(chosen)) <= n
    assert all(held[query] > 0 for query in chosen)
    assert [pool[q] for q in chosen] == sorted((pool[q] for q in chosen), reverse=True)
    if n > 1 and (held > 0).any():
        assert pool[chosen[0]] == pool[held > 0].max()
        assert pool[chosen[-1]] == pool[held > 0].min()


def test_the_curve_keeps_both_ends_and_falls():
    points = curve(np.arange(100_000))
    assert points[0] == [1, 99_999]
    assert points[-1] == [99_999, 1]
    assert len(points) <= 160
    assert curve(np.zeros(3, np.int64)) == []
    assert curve_svg({"before": points, "drawn": [], "after": [[1, 1]]}, None, '"<b>').count("<path") > 2
    assert '"<b>' not in curve_svg({"before": points}, 300, '"<b>')


def test_numbers_in_words():
    assert [percent(n, 1000) for n in (0, 0.5, 1, 500, 999.5, 1000)] == [
        "0 %", "< 0.1 %", "0.1 %", "50.0 %", "> 99.9 %", "100 %",
    ]  # fmt: skip
    assert percent(1, 0) == "0 %"
    assert [byte_size(n) for n in (0, 999, 1500, 2_000_000)] == ["0 bytes", "999 bytes", "1.5 kB", "2.0 MB"]
    assert [short_number(n) for n in (0, 9_999, 12_345, 7_000_000)] == ["", "9,999", "12k", "7M"]


def test_no_picture_of_what_is_none():
    assert picture_uri(None) is None
    assert picture_uri(b"") is None
    assert picture_uri(b"\xff\xd8\xff\xe0 broken") is None


def test_matches_of_no_rows():
    from openwit.pipeline.stages.card.samples import _matches

    assert list(_matches(pa.array([], pa.list_(pa.list_(pa.int32()))), [1])) == []
    column = pa.array([[[1], [2, 1]], [], [[3]], [[1]]], pa.list_(pa.list_(pa.int32())))
    assert list(_matches(column, [1, 3])) == [(1, 0, 0), (1, 0, 1), (3, 2, 0), (1, 3, 0)]

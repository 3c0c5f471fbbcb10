"""Hints: given for a figure that asks for action, and for no other."""

import numpy as np
import pytest

from openwit.pipeline.stages.card.balance import query_facts
from openwit.pipeline.stages.card.downloads import download_classes
from openwit.pipeline.stages.card.hints import hints
from openwit.pipeline.stages.card.stop_words import is_stop
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.queries import QUERY_COUNTS


def step(stage, unit, rows_in, **reasons):
    rows_out = rows_in - sum(reasons.values())
    return {"stage": stage, "unit": unit, "rows_in": rows_in, "rows_out": rows_out, "reasons": reasons}


def downloads(**reasons):
    return {"downloads": {"urls": 500, "classes": download_classes(300, reasons)}}


def facts(**changes):
    """Of a dataset that asks for nothing."""
    return {
        "funnel": [step("candidates", "pairs", 1000, language=100, too_short=20)],
        "queries": {},
        "cap": None,
        "downloads": {"urls": 1000, "classes": download_classes(950, {"http_not_found": 50})},
        "hosts": {"n": 9, "images": 900, "top": [{"label": "a.org", "n": 200}]},
        "images": {"n": 900},
        "licences": {"texts": 1000, "none_stated": 500},
        "risks": {"texts_with": {"mail": 0}},
        **changes,
    }


def found(recipe=None, **changes):
    manifest = DatasetManifest(name="d", recipe=recipe or {}, tools={}, funnel=[], shards=[])
    return hints(facts(**changes), manifest)


def test_a_sound_dataset_has_none():
    assert found() == []
    assert found({"dedup": {"exclude": ["imagenet"]}}) == []


@pytest.mark.parametrize(
    ("changes", "section", "words"),
    [
        ({"funnel": [step("fetch", "images", 400, too_small=220)]}, "funnel", "55.0 % of its images for one reason"),
        ({"funnel": [step("select", "pairs", 400, no_match=390)]}, "funnel", "97.5 % of the pairs match no query"),
        (downloads(http_gone=200), "sites", "40.0 % of the image URLs are gone"),
        (downloads(timeout=200), "sites", "could not be reached"),
        (downloads(http_forbidden=200), "sites", "refused"),
        ({"hosts": {"n": 9, "images": 900, "top": [{"label": "a.org", "n": 300}]}}, "sites", "one site, a.org"),
        ({"licences": {"texts": 1000, "none_stated": 999}}, "rights", "99.9 % of the texts no licence"),
        ({"risks": {"texts_with": {"mail": 1}}}, "risks", "1 text holds what looks like"),
        ({"recipe": {"dedup": {"exclude": []}}}, "duplicates", "No evaluation set"),
    ],
)  # fmt: skip
def test_what_asks_for_action(changes, section, words):
    (hint,) = found(**changes)
    assert hint.section == section
    assert words in hint.figure
    assert hint.action


def test_few_rows_and_expected_drops_ask_for_nothing():
    assert found(funnel=[step("fetch", "images", 40, too_small=39), step("select", "pairs", 900, not_drawn=800)]) == []
    assert found(funnel=[step("queries", "terms", 9000, below_min_count=8000)]) == []
    assert found(downloads={}) == []


def balance(pools, cap):
    pool = np.array(pools)
    columns = {"query_id": list(range(len(pool))), "query": [f"q{n}" for n in range(len(pool))], "pool": pool}
    columns |= {"source": ["word"] * len(pool), "threshold": [1.0] * len(pool), "drawn": np.minimum(pool, cap)}
    return query_facts(QUERY_COUNTS.table({**columns, "kept": columns["drawn"]}), pool, 3)


def test_a_balance_that_changed_little_names_a_cap_that_would():
    queries = balance([900, 300, *[20] * 38, 0], cap=800)
    assert queries["lower_cap"] == {"cap": 20, "limited": 2, "drawn": 20 * 40}
    (hint,) = found(queries=queries, cap=800)
    assert "only 1 of the 40 queries with pairs have more than t = 800" in hint.figure
    assert "With cap: 20 the balance would limit 2 queries" in hint.action
    assert found(queries=balance([900, 300, *[20] * 38], cap=30), cap=30) == []


@pytest.mark.parametrize("pools", [[], [0, 0], [5], [7, 7, 7]])
def test_no_cap_is_named_where_none_would_change_anything(pools):
    queries = balance(pools, cap=100)
    assert queries["lower_cap"] == {}
    assert all("With cap" not in hint.action for hint in found(queries=queries, cap=100))


def test_stop_words():
    assert is_stop("the")
    assert is_stop("of the")
    assert not is_stop("the kite")
    assert not is_stop("rotmilan")

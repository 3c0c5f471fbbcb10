import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.training.evaluation.statistics.intervals import (
    bootstrap_class_mean,
    bootstrap_mean,
    chance_recall,
    wilson,
)


@given(st.integers(1, 7), st.data())
def test_chance_is_the_share_of_all_orders_that_hit(gallery: int, data: st.DataObject) -> None:
    relevant = data.draw(st.integers(0, gallery))
    k = data.draw(st.integers(1, gallery + 2))
    answers = list(itertools.combinations(range(gallery), min(k, gallery)))
    hits = sum(any(entry < relevant for entry in answer) for answer in answers)
    assert chance_recall(relevant, gallery, k) == pytest.approx(hits / len(answers))


def test_chance_of_one_right_answer_is_k_in_n() -> None:
    assert chance_recall(1, 759, 10) == pytest.approx(10 / 759)


def test_chance_refuses_nonsense() -> None:
    with pytest.raises(ValueError):
        chance_recall(3, 2, 1)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        hits = (rng.random(120) < 0.3).astype(float)
        interval = bootstrap_mean(hits, np.ones(120), resamples=400)
        covered += interval.low <= 0.3 <= interval.high
    assert 175 <= covered <= 199


def test_groups_that_agree_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    hits = (rng.random(200) < 0.5).astype(float)
    alone = bootstrap_mean(hits, np.ones(200))
    repeated = bootstrap_mean(5 * hits, np.full(200, 5.0))
    apart = bootstrap_mean((rng.random((200, 5)) < 0.5).sum(axis=1).astype(float), np.full(200, 5.0))
    assert repeated == alone
    assert apart.high - apart.low < 0.7 * (repeated.high - repeated.low)


def test_the_same_input_gives_the_same_interval() -> None:
    hits = np.array([1.0, 0, 0, 1, 1])
    assert bootstrap_mean(hits, np.ones(5)) == bootstrap_mean(hits, np.ones(5))
    assert bootstrap_mean(np.ones(5), np.ones(5)).low == 1


def test_wilson_against_published_figures() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    for right, count, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)]:
        found = wilson(right, count)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson(29, 29).high == 1
    with pytest.raises(ValueError):
        wilson(3, 2)


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_share_and_mirrors(count: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, count))
    found, mirrored = wilson(right, count), wilson(count - right, count)
    assert 0 <= found.low <= right / count <= found.high <= 1
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)
    assert wilson(2 * right, 2 * count).high - wilson(2 * right, 2 * count).low < found.high - found.low


def test_a_mean_over_classes_draws_within_classes() -> None:
    sure = bootstrap_class_mean(np.array([10, 0]), np.array([10, 20]))
    assert (sure.low, sure.high) == (0.5, 0.5)
    wide = bootstrap_class_mean(np.array([5, 50]), np.array([10, 100]))
    narrow = bootstrap_class_mean(np.array([50, 50]), np.array([100, 100]))
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.statistics import bootstrap_mean, chance_recall


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

from functools import partial

import numpy as np
import pytest

from openwit.training.config.choices import Metric
from openwit.training.evaluation.statistics.estimates import estimate_ranks, estimate_scores
from openwit.training.evaluation.statistics.intervals import bootstrap_within
from openwit.training.evaluation.statistics.metrics import average_precision, roc_auc


@pytest.mark.parametrize("metric", [Metric.ACCURACY, Metric.MEAN_PER_CLASS, Metric.MEAN_TOP1_TOP5])
def test_metrics_of_ranks(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    labels, ranks = rng.integers(0, 8, 300), rng.integers(0, 8, 300)
    found = estimate_ranks(metric, ranks, labels, 8)
    assert found.low < found.value < found.high
    assert found.chance is not None
    assert found.low < found.chance < found.high  # ranks are random
    wide = estimate_ranks(metric, ranks, labels, 8, level=0.99)
    assert wide.high - wide.low > found.high - found.low
    sure = estimate_ranks(metric, 0 * ranks, labels, 8)
    assert (sure.value, sure.high) == (1, 1)
    with pytest.raises(ValueError, match="no images"):
        estimate_ranks(metric, ranks[:0], labels[:0], 8)
    with pytest.raises(ValueError, match="computed from ranks"):
        estimate_scores(metric, np.ones((2, 2)), np.eye(2, dtype=np.int8))


@pytest.mark.parametrize("metric", [Metric.ROC_AUC, Metric.MAP_11, Metric.MAP])
def test_metrics_of_scores(metric: Metric) -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random((150, 3)) < 0.4).astype(np.int8)
    scores = rng.normal(size=(150, 3)) + truth
    found = estimate_scores(metric, scores, truth)
    assert found.low < found.value < found.high
    assert found == estimate_scores(metric, scores, truth)
    perfect = estimate_scores(metric, truth.astype(float), truth)
    assert (perfect.low, perfect.value, perfect.high) == (1, 1, 1)
    absent = truth.copy()
    absent[:, 0] = 0
    assert 0 < estimate_scores(metric, scores, absent).value < 1
    with pytest.raises(ValueError, match="needs"):
        estimate_scores(metric, scores, 0 * truth)
    with pytest.raises(ValueError, match="needs"):
        estimate_scores(metric, scores[:0], truth[:0])
    with pytest.raises(ValueError, match="needs scores"):
        estimate_ranks(metric, np.zeros(1, int), np.zeros(1, int), 2)


def test_two_classes_are_drawn_each() -> None:
    truth = np.array([1] + 30 * [0])
    found = estimate_scores(Metric.ROC_AUC, np.arange(31, 0, -1.0), truth)
    assert (found.low, found.high, found.chance) == (1, 1, 0.5)
    assert "within classes" in found.interval


def test_intervals_of_auc_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(100):
        truth = np.repeat([0, 1], 40)
        compute = partial(roc_auc, rng.normal(size=80) + truth, truth)
        found = bootstrap_within(compute, truth, resamples=200)
        covered += found.low <= 0.7602 <= found.high  # P(N(1, 2) > 0)
    assert 87 <= covered <= 100


def test_repeated_images_do_not_shift_the_interval_of_an_average_precision() -> None:
    # Of a random ranking a draw's average precision is higher than that of the whole; plain percentiles miss below.
    rng = np.random.default_rng(0)
    truth = np.zeros(300, dtype=np.int64)
    truth[:20] = 1
    expected, plain, corrected = 20 / 300, 0, 0
    for _ in range(60):
        compute = partial(average_precision, rng.normal(size=300), truth)
        value = float(compute()[0])
        plain += bootstrap_within(compute, truth, resamples=200).low <= expected
        corrected += bootstrap_within(compute, truth, resamples=200, value=value).low <= expected
    assert plain <= corrected
    assert corrected >= 50


def test_draws_without_a_value_are_left_out() -> None:
    found = bootstrap_within(lambda weights: np.where(weights[:, 0] > 0, 1.0, np.nan), np.zeros(3, int), resamples=50)
    assert (found.low, found.high) == (1, 1)
    with pytest.raises(ValueError, match="no draw"):
        bootstrap_within(lambda weights: np.full(len(weights), np.nan), np.zeros(3, int), resamples=50)
    with pytest.raises(ValueError, match="no observations"):
        bootstrap_within(lambda weights: weights[:, 0], np.zeros(0, int))

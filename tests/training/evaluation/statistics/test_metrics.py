import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from openwit.training.evaluation.statistics.metrics import (
    VOC_POINTS,
    accuracy,
    average_precision,
    mean_average_precision,
    mean_per_class,
    mean_top1_top5,
    ranks_of,
    roc_auc,
)


def made(seed: int, count: int = 60, ties: bool = True) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, count)
    scores = rng.normal(0, 1, count) + 0.8 * truth
    return (np.round(scores, 1) if ties else scores), truth


def by_definition(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Precision and recall at each distinct score, from the highest on."""
    precision, recall = [], []
    for least in sorted(set(scores.tolist()), reverse=True):
        chosen = truth[scores >= least]
        precision.append(chosen.sum() / len(chosen))
        recall.append(chosen.sum() / truth.sum())
    return precision, recall


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_share_of_pairs_in_order(seed: int, ties: bool) -> None:
    scores, truth = made(seed, ties=ties)
    u = stats.mannwhitneyu(scores[truth == 1], scores[truth == 0]).statistic
    assert roc_auc(scores, truth)[0] == pytest.approx(u / (truth.sum() * (1 - truth).sum()))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_average_precisions_are_their_definitions(seed: int, ties: bool) -> None:
    scores, truth = made(seed, ties=ties)
    precision, recall = by_definition(scores, truth)
    steps = np.diff([0, *recall])
    assert average_precision(scores, truth)[0] == pytest.approx((steps * precision).sum())
    levels = [k / 10 for k in range(11)]
    best = [max(p for p, r in zip(precision, recall, strict=True) if r >= level - 1e-12) for level in levels]
    assert average_precision(scores, truth, points=VOC_POINTS)[0] == pytest.approx(np.mean(best))


def test_against_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    for seed in range(6):
        scores, truth = made(seed, 200)
        assert roc_auc(scores, truth)[0] == pytest.approx(sklearn.roc_auc_score(truth, scores))
        assert average_precision(scores, truth)[0] == pytest.approx(sklearn.average_precision_score(truth, scores))
        labels = np.random.default_rng(seed).integers(0, 5, 200)
        ranks = np.random.default_rng(seed + 1).integers(0, 3, 200)
        predicted = np.where(ranks == 0, labels, (labels + 1) % 5)
        assert mean_per_class(ranks, labels) == pytest.approx(sklearn.balanced_accuracy_score(labels, predicted))


def test_golden_values_of_scikit_learn() -> None:
    # scikit-learn 1.9.1: roc_auc_score, average_precision_score of these, with ties.
    scores = np.array([0.1, 0.4, 0.35, 0.8, 0.4, 0.4, 0.9, 0.2])
    truth = np.array([0, 0, 1, 1, 1, 0, 0, 1])
    assert roc_auc(scores, truth)[0] == pytest.approx(SKLEARN_AUC)
    assert average_precision(scores, truth)[0] == pytest.approx(SKLEARN_AP)


SKLEARN_AUC, SKLEARN_AP = 0.4375, 0.49285714285714284


def test_as_clip_benchmark_computes_the_mean_over_classes() -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random((80, 6)) < 0.3).astype(np.int8)
    scores = rng.normal(size=(80, 6)) + truth
    found = []
    for number in range(6):  # metrics/zeroshot_classification.py, average_precision_per_class, without ties
        hits = truth[np.argsort(-scores[:, number]), number]
        precision = hits.cumsum() / np.arange(1, 81)
        found.append(precision[hits == 1].sum() / hits.sum())
    assert mean_average_precision(scores, truth)[0] == pytest.approx(np.mean(found))


def test_the_eleven_points_of_a_small_ranking() -> None:
    # Positives at places 1, 3 and 6: precision 1, 2/3, 1/2 at recall 1/3, 2/3, 1; four, three and four levels.
    scores, truth = np.arange(6, 0, -1.0), np.array([1, 0, 1, 0, 0, 1])
    assert average_precision(scores, truth, points=11)[0] == pytest.approx((4 * 1 + 3 * 2 / 3 + 4 * 0.5) / 11)


def test_ten_positives_reach_every_level_exactly() -> None:
    truth = np.array([1, 0] * 10)
    recalls = [(k + 1) / 10 for k in range(10)]
    precision = [(k + 1) / (2 * k + 1) for k in range(10)]
    best = [max(p for p, r in zip(precision, recalls, strict=True) if round(10 * r) >= level) for level in range(11)]
    assert average_precision(np.arange(20, 0, -1.0), truth, points=11)[0] == pytest.approx(np.mean(best))


def test_perfect_collapsed_and_absent() -> None:
    truth = np.array([1, 1, 0, 0, 0])
    perfect = np.array([5.0, 4, 3, 2, 1])
    for points in (None, 11):
        assert average_precision(perfect, truth, points=points)[0] == 1
        assert average_precision(np.zeros(5), truth, points=points)[0] == pytest.approx(0.4)
        assert np.isnan(average_precision(perfect, np.zeros(5, int), points=points)[0])
        assert average_precision(perfect, np.ones(5, int), points=points)[0] == 1
        assert np.isnan(average_precision(np.empty(0), np.empty(0, int), points=points)[0])
    assert roc_auc(perfect, truth)[0] == 1
    assert roc_auc(-perfect, truth)[0] == 0
    assert roc_auc(np.zeros(5), truth)[0] == 0.5
    assert np.isnan(roc_auc(perfect, np.ones(5, int))[0])
    assert np.isnan(roc_auc(perfect, np.zeros(5, int))[0])
    nothing = np.full(5, np.nan)
    assert roc_auc(nothing, truth)[0] == 0
    assert average_precision(nothing, truth)[0] == pytest.approx(0.4)


def test_what_is_not_judged_is_left_out() -> None:
    scores, truth = made(1)
    more = np.append(truth, [-1, -1])
    assert roc_auc(np.append(scores, [9.0, -9.0]), more) == roc_auc(scores, truth)
    for points in (None, 11):
        assert average_precision(np.append(scores, [9.0, -9.0]), more, points=points) == average_precision(
            scores, truth, points=points
        )


def test_a_class_without_positives_is_left_out_of_the_mean() -> None:
    scores, truth = made(2)
    table = np.stack([scores, scores], axis=1)
    assert mean_average_precision(table, np.stack([truth, 0 * truth], axis=1)) == average_precision(scores, truth)
    assert np.isnan(mean_average_precision(table, 0 * table.astype(int))[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 12), st.sampled_from([None, 11]))
def test_a_weight_is_so_many_copies(seed: int, count: int, points: int | None) -> None:
    scores, truth = made(seed, count)
    weights = np.random.default_rng(seed).integers(0, 3, count)
    many = np.repeat(np.arange(count), weights)
    table = weights[None].astype(float)
    found, expected = (
        average_precision(scores, truth, table, points),
        average_precision(scores[many], truth[many], points=points),
    )
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(roc_auc(scores, truth, table), roc_auc(scores[many], truth[many]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 30))
def test_no_order_of_the_images_matters(seed: int, count: int) -> None:
    scores, truth = made(seed, count)
    order = np.random.default_rng(seed).permutation(count)
    np.testing.assert_allclose(average_precision(scores, truth), average_precision(scores[order], truth[order]))
    np.testing.assert_allclose(roc_auc(scores, truth), roc_auc(scores[order], truth[order]))


def test_shares_of_ranks() -> None:
    scores = np.array([[0.1, 0.9, 0.0], [0.5, 0.5, 0.1], [np.nan, 0.2, 0.1], [0.3, 0.2, 0.1]])
    labels = np.array([1, 0, 1, 0])
    assert ranks_of(scores, labels).tolist() == [0, 1, 1, 0]
    ranks = np.array([0, 1, 4, 5, 0])
    assert accuracy(ranks) == 0.4
    assert accuracy(ranks, 5) == 0.8
    assert mean_top1_top5(ranks) == pytest.approx(0.6)
    assert mean_per_class(ranks, np.array([0, 0, 0, 0, 7])) == pytest.approx((1 / 4 + 1) / 2)
    for empty in (accuracy, mean_top1_top5):
        with pytest.raises(ValueError, match="no images"):
            empty(np.empty(0, int))
    with pytest.raises(ValueError, match="no images"):
        mean_per_class(np.empty(0, int), np.empty(0, int))

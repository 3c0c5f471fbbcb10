"""The solver reaches scikit-learn's optimum, and the search takes the steps that a plain restatement takes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.probe import GRID, Solver, fit_head, fit_probe, held_out, search_penalty
from openwit.training.evaluation.statistics import Metric

RNG = np.random.default_rng(0)


def clouds(
    count: int, classes: int = 3, width: int = 6, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Overlapping clouds around means that are the same for each seed, off centre and of unequal scales."""
    centres = np.random.default_rng(9).normal(0, 0.9, (classes, width))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    rows = (centres[labels] + rng.normal(0, 1, (count, width))) * np.linspace(0.2, 3, width) + 2
    return rows.astype(np.float32), labels


def mean_objective(
    rows: NDArray[np.float64], truth: NDArray[np.float64], weights: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    """Gradient of the softmax objective over (K, D + 1), by its definition."""
    wide = np.hstack([rows, np.ones((len(rows), 1))])
    logits = wide @ weights.T
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    gradient = (shares - truth).T @ wide / len(rows)
    gradient[:, :-1] += penalty / len(rows) * weights[:, :-1]
    return gradient


@pytest.mark.parametrize("penalty", [1e-6, 1e-2, 1.0, 1e3, 1e6])
def test_the_gradient_of_the_stated_objective_is_zero(penalty: float) -> None:
    rows, labels = clouds(300)
    head = fit_head(rows, labels, 3, penalty)
    assert head.converged
    weights = np.hstack([head.weights, head.bias[:, None]])
    found = mean_objective(rows.astype(np.float64), np.eye(3)[labels], weights, penalty)
    assert np.abs(found).max() < 1e-4  # about 2 more from the centre than the solver's own


def test_scikit_learn_finds_the_same_weights_and_the_same_sweep() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rows, labels = clouds(240)
    others, truth = clouds(150, seed=1)

    def fitted(step: int) -> float:
        model = linear.LogisticRegression(C=1 / GRID[step], max_iter=1000, tol=1e-7)
        return float(model.fit(rows.astype(np.float64), labels).score(others, truth))

    model = linear.LogisticRegression(C=1 / 0.1, max_iter=1000, tol=1e-8).fit(rows.astype(np.float64), labels)
    head = fit_head(rows, labels, 3, 0.1, tolerance=1e-7)
    np.testing.assert_allclose(head.weights, model.coef_, atol=2e-3)
    by_hand: dict[int, float] = {step: fitted(step) for step in (96, 80, 64, 48, 32, 16, 0)}
    for width in (8, 4, 2, 1):
        best = max(value for value in by_hand.values())
        peak = max(step for step, value in by_hand.items() if value == best)
        for step in (peak + width, peak - width):
            if 0 <= step <= 96 and step not in by_hand:
                by_hand[step] = fitted(step)
    probe = fit_probe(rows, labels, 3, valid=(others, truth), refit=False)
    assert list(probe.sweep.scores) == list(by_hand)
    assert probe.sweep.scores == pytest.approx(by_hand, abs=1e-12)


def test_at_equal_penalties_accuracies_are_scikit_learns_within_a_tenth_of_a_point() -> None:
    """Also where the penalty is so small that the images can be separated, and from another penalty's solution."""
    linear = pytest.importorskip("sklearn.linear_model")
    rows, labels = clouds(50, classes=4, width=16)
    others, truth = clouds(4000, classes=4, width=16, seed=1)
    solver, head, sizes = Solver(rows, labels, 4), None, [0.0]
    for penalty in (100.0, 1.0, 1e-2, 1e-4, 1e-6):
        head = solver.fit(penalty, start=head)
        peer = linear.LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-10, max_iter=200)
        peer.fit(rows.astype(np.float64), labels)
        assert head.converged
        np.testing.assert_allclose(head.weights, peer.coef_, atol=1e-3 * np.abs(peer.coef_).max())
        bias = head.bias - head.bias.mean()  # a constant more for all classes changes nothing
        np.testing.assert_allclose(
            bias, peer.intercept_ - peer.intercept_.mean(), atol=0.01 + 1e-3 * np.abs(bias).max()
        )
        mine = float((head.scores(others).argmax(axis=1) == truth).mean())
        assert abs(mine - float(peer.score(others.astype(np.float64), truth))) <= 0.001
        sizes.append(float(np.linalg.norm(head.weights)))
        assert sizes[-1] > 1.2 * sizes[-2]  # a fit that only repeats the start would be seen
    assert 0.7 < mine < 0.97
    assert (head.scores(rows).argmax(axis=1) == labels).all()  # separated


@pytest.mark.parametrize("penalty", [1.0, 1e2, 1e4])
def test_a_gradient_that_float32_cannot_resolve_is_reached(penalty: float) -> None:
    rows, labels = clouds(300, classes=4, width=20)
    head = fit_head(rows, labels, 4, penalty, tolerance=1e-9)
    assert head.converged
    assert head.iterations < 400


def test_features_of_very_unequal_scales() -> None:
    rows, labels = clouds(200, width=30)
    rows = rows * np.geomspace(1e-3, 1e4, 30, dtype=np.float32)
    rows[:, 3] = rows[:, 4]
    assert np.isfinite(fit_head(rows, labels, 3, 1e-2, iterations=200).weights).all()
    with pytest.raises(DataError, match=r"features are as large as 1e\+20; scale them"):
        fit_head(rows * np.float32(1e20 / np.abs(rows).max()), labels, 3, 1.0)


def test_the_grid_and_the_path() -> None:
    assert len(GRID) == 97
    np.testing.assert_allclose(GRID[::8], 10.0 ** np.arange(-6, 7))
    sweep = search_penalty(lambda step: -abs(step - 37))
    assert sweep.best == 37
    assert len(sweep.scores) <= 15
    assert list(sweep.scores)[:7] == [96, 80, 64, 48, 32, 16, 0]
    assert list(sweep.scores)[7:] == [40, 24, 36, 28, 38, 34, 37, 35] or sweep.best == 37
    assert search_penalty(lambda _: 1.0).best == 96


def test_fewer_images_than_features() -> None:
    rows, labels = clouds(12, width=40)
    head = fit_head(rows, labels, 3, 0.1)
    weights = np.hstack([head.weights, head.bias[:, None]])
    found = mean_objective(rows.astype(np.float64), np.eye(3)[labels], weights, 0.1)
    assert head.weights.shape == (3, 40)
    assert np.abs(found).max() < 2e-4


def test_several_labels_are_problems_of_their_own() -> None:
    rows, labels = clouds(200, classes=2)
    both = np.stack([labels, 1 - labels], axis=1).astype(np.int8)
    both[::5, 1] = -1
    head = fit_head(rows, both, 2, 0.5)
    alone = fit_head(rows, both[:, :1], 1, 0.5)
    kept = both[:, 1] >= 0
    assert head.converged
    np.testing.assert_allclose(head.weights[0], alone.weights[0], atol=2e-3)
    # Of two classes, the difference of a softmax's weights is the logistic's, at twice its penalty.
    two = fit_head(rows, labels, 2, 1.0)
    np.testing.assert_allclose(two.weights[1] - two.weights[0], alone.weights[0], atol=2e-3)
    shares = 1 / (1 + np.exp(-(rows[kept] @ head.weights[1] + head.bias[1])))
    gradient = (shares - both[kept, 1]) @ rows[kept] / len(rows) + 0.5 / len(rows) * head.weights[1]
    assert np.abs(gradient).max() < 1e-4
    probe = fit_probe(rows, both, 2, metric=Metric.MAP)
    assert probe.valid == 40


def test_a_fit_that_ends_early_says_so() -> None:
    rows, labels = clouds(100)
    head = fit_head(rows, labels, 3, 1e-6, iterations=2)
    assert (head.iterations, head.converged) == (2, False)
    assert head.gradient > 1e-5


def test_images_are_held_out_of_every_class_that_can_spare_one() -> None:
    labels = np.array([0] * 10 + [1] * 2 + [2])
    aside = held_out(labels)
    assert [int(aside[labels == label].sum()) for label in range(3)] == [2, 1, 0]
    assert (aside == held_out(labels)).all()
    assert any((held_out(labels, seed=seed) != aside).any() for seed in range(1, 5))
    with pytest.raises(DataError, match="no class has two training images"):
        held_out(np.array([0, 1, 2]))


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        (np.array([0, 1, 3]), 3, "labels must be 0 to 2; there are 0 to 3"),
        (np.array([0, 1]), 2, "3 images with features and 2 labels"),
        (np.array([0, 0, 0]), 1, "two classes or more"),
        (np.zeros((3, 4), np.int8), 3, "4 columns for 3 classes"),
    ],
)
def test_what_cannot_be_fitted(labels: NDArray[np.int64], classes: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit_head(np.ones((3, 2), np.float32), labels, classes, 1.0)


def test_metrics_that_do_not_apply() -> None:
    rows, labels = clouds(60)
    with pytest.raises(DataError, match="is for two classes, not 3"):
        fit_probe(rows, labels, 3, metric=Metric.ROC_AUC)
    with pytest.raises(DataError, match="one label an image"):
        fit_probe(rows, np.ones((60, 3), np.int8), 3, metric=Metric.ACCURACY)
    for metric in (Metric.MEAN_PER_CLASS, Metric.MAP_11):
        assert 0.3 < max(fit_probe(rows, labels, 3, metric=metric).sweep.scores.values()) <= 1

"""Fit a linear probe: choose the penalty on validation images, then fit to training and validation images together."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.probe.solver import ITERATIONS, TOLERANCE, Head, Solver
from openwit.training.evaluation.probe.sweep import GRID, Sweep, search_penalty
from openwit.training.evaluation.statistics import (
    Estimate,
    Metric,
    accuracy,
    estimate_ranks,
    estimate_scores,
    mean_average_precision,
    mean_per_class,
    mean_top1_top5,
    ranks_of,
    roc_auc,
)
from openwit.training.evaluation.statistics.metrics import VOC_POINTS

HELD_OUT = 0.2
"""Share of the training images that validates where the data have no split for it."""

Rows = NDArray[np.float32]
Targets = NDArray[np.int64] | NDArray[np.int8]
"""(N,) the class of each image; or (N, K) of 1, 0 and -1 (not judged) where an image has several labels."""


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        head: fitted to training and validation images.
        sweep: metric on the validation images by penalty.
        heads: of the sweep, by position in `GRID`, fitted to the training images.
        train, valid: number of images of each.
    """

    head: Head
    sweep: Sweep
    heads: dict[int, Head]
    train: int
    valid: int

    @property
    def unconverged(self) -> list[float]:
        """Return penalties whose fits ended at the limit of iterations."""
        return [GRID[step] for step, head in sorted(self.heads.items()) if not head.converged]


def fit_probe(
    rows: Rows,
    targets: Targets,
    classes: int,
    *,
    valid: tuple[Rows, Targets] | None = None,
    metric: Metric = Metric.ACCURACY,
    seed: int = 0,
    refit: bool = True,
    device: torch.device | str = "cpu",
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
    progress: Callable[[int], None] | None = None,
) -> Probe:
    """Fit a probe as in appendix A.3.

    Args:
        rows: (N, D) features of the training images.
        targets: see `Targets`.
        classes: number of classes.
        valid: features and targets of the validation images; None: `HELD_OUT` of the training images.
        metric: to be maximised on them.
        seed: of the images held out.
        refit: fit the chosen penalty again to training and validation images together.
        device: where to compute.
        iterations, tolerance: see `Solver.fit`.
        progress: receives the number of fits done, 15 or so.

    Raises:
        DataError: labels do not fit, or the metric does not exist for the validation images.
    """
    if valid is None:
        aside = held_out(targets, seed=seed)
        valid = rows[aside], targets[aside]
        rows, targets = rows[~aside], targets[~aside]
    solver = Solver(rows, targets, classes, device)
    heads: dict[int, Head] = {}

    def score(step: int) -> float:
        start = next((heads[other] for other in sorted(heads) if other > step), None)
        heads[step] = solver.fit(GRID[step], start=start, iterations=iterations, tolerance=tolerance)
        if progress is not None:
            progress(len(heads))
        return value_of(metric, heads[step].scores(valid[0]), valid[1])

    sweep = search_penalty(score)
    best = heads[sweep.best]
    if refit:
        del solver  # and its copy of the features
        both = Solver(np.concatenate([rows, valid[0]]), np.concatenate([targets, valid[1]]), classes, device)
        best = both.fit(sweep.penalty, start=best, iterations=iterations, tolerance=tolerance)
    return Probe(best, sweep, heads, len(rows), len(valid[0]))


def held_out(targets: Targets, share: float = HELD_OUT, seed: int = 0) -> NDArray[np.bool_]:
    """Return (N,) which images validate: of each class this share, at least one and not all; the same for a seed.

    Args:
        targets: see `Targets`; images of several labels are drawn without regard to them.
        share: of the images.
        seed: of the draw.

    Raises:
        DataError: no class has two images.
    """
    rng = np.random.default_rng(seed)
    aside = np.zeros(len(targets), dtype=bool)
    groups = targets if targets.ndim == 1 else np.zeros(len(targets), dtype=np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        aside[rng.permutation(members)[:count]] = True
    if not aside.any():
        raise DataError("no class has two training images, so none can validate: give validation images")
    return aside


def value_of(metric: Metric, scores: Rows, targets: Targets) -> float:
    """Return a metric of scores.

    Raises:
        DataError: it does not exist for these targets.
    """
    _check(metric, targets, scores.shape[1])
    if metric is Metric.ACCURACY:
        return accuracy(ranks_of(scores, targets.astype(np.int64)))
    if metric is Metric.MEAN_PER_CLASS:
        return mean_per_class(ranks_of(scores, targets.astype(np.int64)), targets.astype(np.int64))
    if metric is Metric.MEAN_TOP1_TOP5:
        return mean_top1_top5(ranks_of(scores, targets.astype(np.int64)))
    columns, truth = _columns(metric, scores, targets)
    if metric is Metric.ROC_AUC:
        areas = [roc_auc(columns[:, number], truth[:, number])[0] for number in range(truth.shape[1])]
        value = float(np.nanmean(areas)) if not np.isnan(areas).all() else float("nan")
    else:
        value = float(mean_average_precision(columns, truth, points=_points(metric))[0])
    if np.isnan(value):
        raise DataError(f"{metric} needs images with and without a class, which the validation images are not")
    return value


def estimate(metric: Metric, scores: Rows, targets: Targets) -> Estimate:
    """Return a metric of scores with its interval.

    Raises:
        DataError: it does not exist for these targets.
    """
    _check(metric, targets, scores.shape[1])
    try:
        if metric.of_scores:
            return estimate_scores(metric, *_columns(metric, scores, targets))
        labels = targets.astype(np.int64)
        return estimate_ranks(metric, ranks_of(scores, labels), labels, scores.shape[1])
    except ValueError as error:
        raise DataError(str(error)) from error


def _points(metric: Metric) -> int | None:
    return VOC_POINTS if metric is Metric.MAP_11 else None


def _check(metric: Metric, targets: Targets, classes: int) -> None:
    if targets.ndim == 2 and not metric.of_scores:
        raise DataError(f"{metric} is for one label an image: use {Metric.MAP}, {Metric.MAP_11} or {Metric.ROC_AUC}")
    if targets.ndim == 1 and metric is Metric.ROC_AUC and classes != 2:
        raise DataError(f"{metric} is for two classes, not {classes}")


def _columns(metric: Metric, scores: Rows, targets: Targets) -> tuple[Rows, NDArray[np.int8]]:
    """Return scores and truths, one column per class; for the area of two classes the second class alone."""
    if targets.ndim == 2:
        return scores, targets.astype(np.int8)
    if metric is Metric.ROC_AUC:
        return (scores[:, 1] - scores[:, 0])[:, None], (targets == 1).astype(np.int8)[:, None]
    return scores, (targets[:, None] == np.arange(scores.shape[1])).astype(np.int8)

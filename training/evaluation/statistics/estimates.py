"""Estimate a metric by name: the value, its interval, the interval's kind, and the chance level where there is one."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from openwit.training.config.choices import Metric
from openwit.training.evaluation.statistics.intervals import (
    RESAMPLES,
    bootstrap_class_mean,
    bootstrap_mean,
    bootstrap_within,
    wilson,
)
from openwit.training.evaluation.statistics.metrics import (
    VOC_POINTS,
    Scores,
    Truth,
    accuracy,
    mean_average_precision,
    mean_per_class,
    mean_top1_top5,
    roc_auc,
)

LEVEL = 0.95
WILSON = "Wilson's score"
WITHIN = f"bootstrap within classes, {RESAMPLES} resamples"
OVER_IMAGES = f"bootstrap over images, {RESAMPLES} resamples"

_MOST_NUMBERS = 1 << 22
"""Weights of images in memory at once."""


@dataclass(frozen=True)
class Estimate:
    """A metric in [0, 1].

    Attributes:
        value: of the metric.
        low, high: bounds of its interval.
        level: confidence of the interval.
        interval: its kind, in words.
        chance: value of a model that guesses; None if the metric has none that is known.
    """

    value: float
    low: float
    high: float
    level: float
    interval: str
    chance: float | None = None


def estimate_ranks(
    metric: Metric, ranks: NDArray[np.int64], labels: NDArray[np.int64], classes: int, level: float = LEVEL
) -> Estimate:
    """Estimate a metric of the rank of the right class.

    Args:
        metric: one that is not `of_scores`.
        ranks: (N,) wrong classes before the right one; see `metrics.ranks_of`.
        labels: (N,) the right class.
        classes: number of classes.
        level: confidence.

    Raises:
        ValueError: there are no images, or the metric needs scores.
    """
    if not len(ranks):
        raise ValueError("no images")
    if metric is Metric.ACCURACY:
        found = wilson(int((ranks == 0).sum()), len(ranks), level)
        return Estimate(accuracy(ranks), found.low, found.high, level, WILSON, 1 / classes)
    if metric is Metric.MEAN_PER_CLASS:
        counts = np.bincount(labels, minlength=classes)
        right = np.bincount(labels[ranks == 0], minlength=classes)
        found = bootstrap_class_mean(right[counts > 0], counts[counts > 0], level=level)
        return Estimate(mean_per_class(ranks, labels), found.low, found.high, level, WITHIN, 1 / classes)
    if metric is Metric.MEAN_TOP1_TOP5:
        hits = ((ranks < 1).astype(float) + (ranks < 5)) / 2
        found = bootstrap_mean(hits, np.ones(len(hits)), level=level)
        chance = (1 / classes + min(5, classes) / classes) / 2
        return Estimate(mean_top1_top5(ranks), found.low, found.high, level, OVER_IMAGES, chance)
    raise ValueError(f"{metric} needs scores")


def estimate_scores(metric: Metric, scores: Scores, truth: Truth, level: float = LEVEL) -> Estimate:
    """Estimate a metric of scores and truths, one column per class, or one alone for two classes.

    Args:
        metric: one that is `of_scores`.
        scores: (N, classes) or (N,) higher is more likely.
        truth: of the same shape; see `openwit.training.evaluation.statistics.metrics`.
        level: confidence.

    Raises:
        ValueError: the metric does not exist for these truths, as positives or negatives are absent.
    """
    if scores.ndim == 1:
        scores, truth = scores[:, None], truth[:, None]
    if metric is Metric.ROC_AUC:
        judged = (truth == 1).any(axis=0) & (truth == 0).any(axis=0)
        if not judged.any():
            raise ValueError("ROC AUC needs images with and without a class")
        compute = partial(_mean_auc, scores[:, judged], truth[:, judged])
        chance: float | None = 0.5
    elif metric in (Metric.MAP_11, Metric.MAP):
        if not (truth == 1).any():
            raise ValueError("average precision needs an image with a class")
        points = VOC_POINTS if metric is Metric.MAP_11 else None
        compute = partial(_mean_ap, scores, truth, points)
        chance = None
    else:
        raise ValueError(f"{metric} is computed from ranks")
    value = float(compute(np.ones((1, len(truth))))[0])
    one = truth.shape[1] == 1
    groups = truth[:, 0].astype(np.int64) if one else np.zeros(len(truth), dtype=np.int64)
    chunk = max(1, min(64, _MOST_NUMBERS // len(truth)))
    found = bootstrap_within(compute, groups, value=value, level=level, chunk=chunk)
    kind = f"{WITHIN if one else OVER_IMAGES}, corrected for bias"
    return Estimate(value, found.low, found.high, level, kind, chance)


def _mean_auc(scores: Scores, truth: Truth, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (draws,) the mean of the areas of the classes that have one in a draw; NaN where none has."""
    columns = np.stack([roc_auc(scores[:, number], truth[:, number], weights) for number in range(scores.shape[1])])
    count = (~np.isnan(columns)).sum(axis=0)
    return np.where(count > 0, np.nansum(columns, axis=0) / np.maximum(count, 1), np.nan)


def _mean_ap(scores: Scores, truth: Truth, points: int | None, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return mean_average_precision(scores, truth, weights, points)

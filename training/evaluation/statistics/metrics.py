"""Compute the metrics of classification, as scikit-learn and the VOC 2007 development kit define them.

A truth is 1 (the class is in the image), 0 (it is not) or -1 (not judged, such as VOC's difficult objects: the image
is then left out for this class). Images of equal score enter a ranking together, so no order of the input matters. A
score that is NaN ranks last where the truth is 1 and first where it is 0, so that a failed model gains nothing.
"""

import numpy as np
from numpy.typing import NDArray

VOC_POINTS = 11
"""Levels of recall of VOC 2007's average precision: 0, 0.1 ... 1."""

Scores = NDArray[np.float32] | NDArray[np.float64]
Truth = NDArray[np.int8] | NDArray[np.int64] | NDArray[np.bool_]


def ranks_of(scores: Scores, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (N,) how many wrong classes rank before the right one; those of equal score and NaN do.

    Args:
        scores: (N, classes).
        labels: (N,) the right class.
    """
    own = scores[np.arange(len(scores)), labels]
    before: NDArray[np.int64] = (~(scores < own[:, None])).sum(axis=1) - 1
    return before


def accuracy(ranks: NDArray[np.int64], k: int = 1) -> float:
    """Return the share of images whose class is among the first k.

    Raises:
        ValueError: there are no images.
    """
    if not len(ranks):
        raise ValueError("no images")
    return float((ranks < k).mean())


def mean_per_class(ranks: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Return the mean of the accuracies of all classes that have images, each counted once.

    Raises:
        ValueError: there are no images.
    """
    if not len(ranks):
        raise ValueError("no images")
    counts = np.bincount(labels)
    right = np.bincount(labels[ranks == 0], minlength=len(counts))
    return float((right[counts > 0] / counts[counts > 0]).mean())


def mean_top1_top5(ranks: NDArray[np.int64]) -> float:
    """Return the mean of top-1 and top-5 accuracy, which Kinetics has.

    Raises:
        ValueError: there are no images.
    """
    return (accuracy(ranks, 1) + accuracy(ranks, 5)) / 2


def roc_auc(scores: Scores, truth: Truth, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return the area under the ROC curve: how often a positive ranks before a negative, ties counted as half.

    Args:
        scores: (N,) higher is more likely positive.
        truth: (N,) see the module.
        weights: (draws, N) how often each image counts; None: once.

    Returns:
        (draws,) areas, NaN where positives or negatives are absent; (1,) without weights.
    """
    positives, negatives = _cumulated(scores, truth, weights)
    here = np.diff(positives, axis=1, prepend=0.0)
    below = negatives[:, -1:] - (negatives + np.roll(negatives, 1, axis=1) * _not_first(negatives)) / 2
    pairs = positives[:, -1] * negatives[:, -1]
    return _ratio((here * below).sum(axis=1), pairs)


def average_precision(
    scores: Scores, truth: Truth, weights: NDArray[np.float64] | None = None, points: int | None = None
) -> NDArray[np.float64]:
    """Return the average precision of a ranking.

    Args:
        scores: (N,) higher is more likely positive.
        truth: (N,) see the module.
        weights: (draws, N) how often each image counts, whole numbers; None: once.
        points: mean of the highest precision at or beyond this many levels of recall, `VOC_POINTS` for VOC 2007; None:
            the mean of the precision at each positive, as scikit-learn and CLIP_benchmark have it.

    Returns:
        (draws,) averages, NaN where positives are absent; (1,) without weights.
    """
    positives, negatives = _cumulated(scores, truth, weights)
    seen = positives + negatives
    precision = np.divide(positives, seen, out=np.zeros_like(seen), where=seen > 0)
    total = positives[:, -1]
    if points is None:
        steps = np.diff(positives, axis=1, prepend=0.0)
        return _ratio((steps * precision).sum(axis=1), total)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    found = np.zeros(len(total))
    rows = np.arange(len(total))
    for level in range(points):
        # In whole numbers, as 3 of 10 is not 0.3 in floats. The first place with so much recall has the maximum.
        reached = (points - 1) * positives >= level * total[:, None]
        found += best[rows, reached.argmax(axis=1)]
    return np.where(total > 0, found / points, np.nan)


def mean_average_precision(
    scores: Scores, truth: Truth, weights: NDArray[np.float64] | None = None, points: int | None = None
) -> NDArray[np.float64]:
    """Return the mean over classes of `average_precision`; a class without positives is left out.

    Args:
        scores: (N, classes).
        truth: (N, classes) see the module.
        weights: see `average_precision`.
        points: see `average_precision`.

    Returns:
        (draws,) means, NaN where no class has positives; (1,) without weights.
    """
    total, count = np.zeros(1), np.zeros(1)
    for number in range(scores.shape[1]):
        found = average_precision(scores[:, number], truth[:, number], weights, points)
        there = ~np.isnan(found)
        total = total + np.where(there, found, 0)
        count = count + there
    return _ratio(total, count)


def _cumulated(
    scores: Scores, truth: Truth, weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (draws, thresholds) positives and negatives at or above distinct scores, from the highest on.

    Thresholds without positives are left out but for the last before one with positives: precision and area change at
    those alone, and most images are negative.
    """
    counts = np.ones((1, len(truth))) if weights is None else weights
    judged = np.flatnonzero(truth >= 0)
    if not len(judged):
        return np.zeros((len(counts), 1)), np.zeros((len(counts), 1))
    is_positive = truth[judged] > 0
    values = scores[judged].astype(np.float64)
    values = np.where(np.isnan(values), np.where(is_positive, -np.inf, np.inf), values)
    order = np.argsort(-values, kind="stable")
    values, is_positive, order = values[order], is_positive[order], judged[order]
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)
    until = np.cumsum(is_positive)[ends]
    has_positives = np.diff(until, prepend=0) > 0
    kept = has_positives | np.append(has_positives[1:], True)
    ends, until = ends[kept], until[kept]
    seen = np.cumsum(np.add.reduceat(counts[:, order], np.append(0, ends[:-1] + 1), axis=1), axis=1)
    before = np.zeros((len(counts), 1))
    positives = np.hstack((before, np.cumsum(counts[:, order[is_positive]], axis=1)))[:, until]
    return positives, seen - positives


def _not_first(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.arange(table.shape[1]) > 0


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)
    return found

"""Compute chance levels and confidence intervals."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_CHUNK = 64


@dataclass(frozen=True)
class Interval:
    """Bounds of a confidence interval."""

    low: float
    high: float


def chance_recall(relevant: int, gallery: int, k: int) -> float:
    """Return the probability that a random order of the gallery has a relevant entry among its first k.

    Exact: 1 - C(gallery - relevant, k) / C(gallery, k).

    Args:
        relevant: entries that count as a hit, 0 to `gallery`.
        gallery: total number of entries, at least 1.
        k: number of first entries.
    """
    if not 0 <= relevant <= gallery or gallery < 1:
        raise ValueError(f"{relevant} relevant of {gallery}")
    missed = 1.0
    for drawn in range(min(k, gallery)):
        missed *= max(0, gallery - relevant - drawn) / (gallery - drawn)
    return 1 - missed


def bootstrap_mean(
    sums: NDArray[np.float64], counts: NDArray[np.float64], seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Return the percentile bootstrap interval of a mean over observations that come in groups.

    Whole groups are drawn with replacement (an image together with all its captions), because observations of one
    group are not independent.

    Args:
        sums: (groups,) sum of the observations of each group.
        counts: (groups,) number of observations of each group, positive.
        seed: of the draws; the same input gives the same interval.
        resamples: number of draws.
        level: share of the draws inside the interval.
    """
    rng = np.random.default_rng(seed)
    groups = len(sums)
    uniform = np.full(groups, 1 / groups)
    means: list[NDArray[np.float64]] = []
    for start in range(0, resamples, _CHUNK):
        weights = rng.multinomial(groups, uniform, size=min(_CHUNK, resamples - start)).astype(np.float64)
        means.append((weights @ sums) / (weights @ counts))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(low), float(high))


def wilson(right: int, count: int, level: float = 0.95) -> Interval:
    """Return Wilson's score interval (1927) of a share of independent observations, also if the share is 0 or 1.

    Args:
        right: observations that count.
        count: all, at least 1.
        level: confidence.
    """
    if not 0 <= right <= count or count < 1:
        raise ValueError(f"{right} right of {count}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, spread = right / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    # Rounding may put a bound slightly outside.
    low, high = (0.0 if right == 0 else centre - half), (1.0 if right == count else centre + half)
    return Interval(max(0.0, low), min(1.0, high))


def bootstrap_class_mean(
    right: NDArray[np.int64], counts: NDArray[np.int64], seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Return the percentile bootstrap interval of the mean of classes' shares, drawing within each class.

    Args:
        right: (classes,) observations that count.
        counts: (classes,) all observations of a class, positive.
        seed: of the draws; the same input gives the same interval.
        resamples: number of draws.
        level: share of the draws inside the interval.
    """
    rng = np.random.default_rng(seed)
    shares = right / counts
    means = [
        (rng.binomial(counts, shares, size=(min(_CHUNK, resamples - start), len(counts))) / counts).mean(axis=1)
        for start in range(0, resamples, _CHUNK)
    ]
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(low), float(high))

"""Compute chance levels and confidence intervals."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
"""Draws of a bootstrap, unless a caller says otherwise."""

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
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
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
    return _percentiles(np.concatenate(means), level)


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
    right: NDArray[np.int64], counts: NDArray[np.int64], seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
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
    return _percentiles(np.concatenate(means), level)


def bootstrap_within(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    groups: NDArray[np.int64],
    *,
    value: float | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    chunk: int = _CHUNK,
) -> Interval:
    """Return the percentile bootstrap interval of any statistic, drawing observations within each group.

    Args:
        statistic: maps (draws, N) weights, how often each observation was drawn, to (draws,) values; NaN where a draw
            has none, which is left out.
        groups: (N,) group of each observation; as many are drawn of a group as it has. One group for all: the
            ordinary bootstrap.
        value: of the statistic on all observations, by which the percentiles are corrected for bias (Efron 1981): a
            draw repeats images, and an average precision is then higher than without. None: no correction.
        seed: of the draws; the same input gives the same interval.
        resamples: number of draws.
        level: share of the draws inside the interval.
        chunk: draws at once, which bounds memory: chunk x N numbers.

    Raises:
        ValueError: there are no observations, or no draw has a value.
    """
    if not len(groups):
        raise ValueError("no observations")
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    found: list[NDArray[np.float64]] = []
    for start in range(0, resamples, chunk):
        draws = min(chunk, resamples - start)
        weights = np.empty((draws, len(groups)))
        for member in members:
            drawn = rng.integers(0, len(member), (draws, len(member))) + len(member) * np.arange(draws)[:, None]
            weights[:, member] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(draws, -1)
        found.append(statistic(weights))
    values = np.concatenate(found)
    values = values[~np.isnan(values)]
    if not len(values):
        raise ValueError("no draw has a value")
    return _percentiles(values, level, value)


def _percentiles(values: NDArray[np.float64], level: float, value: float | None = None) -> Interval:
    normal = NormalDist()
    tails = [(1 - level) / 2, (1 + level) / 2]
    if value is not None:
        # Rounding apart, so that a draw of the same value is one.
        below = (values < value - 1e-12).mean() / 2 + (values <= value + 1e-12).mean() / 2
        shift = 2 * normal.inv_cdf(min(max(float(below), 0.5 / len(values)), 1 - 0.5 / len(values)))
        tails = [normal.cdf(shift + normal.inv_cdf(tail)) for tail in tails]
    low, high = np.quantile(values, tails)
    return Interval(float(low), float(high))

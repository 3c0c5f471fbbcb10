"""Chance levels and intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHUNK = 64


@dataclass(frozen=True)
class Interval:
    """Bounds of a confidence interval."""

    low: float
    high: float


def chance_recall(relevant: int, gallery: int, k: int) -> float:
    """Probability that a random order of the gallery puts at least one relevant entry among its first k.

    Exact: 1 - C(gallery - relevant, k) / C(gallery, k).

    Args:
        relevant: entries that count as a hit, 0 to `gallery`.
        gallery: entries in all, at least 1.
        k: length of the answer.
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
    """Percentile bootstrap of a mean over observations that come in groups.

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

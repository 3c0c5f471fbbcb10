"""Test and bound shares of independent observations exactly: binomial tails, Clopper and Pearson, Bonferroni."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openwit.training.evaluation.statistics.intervals import Interval

_HALVINGS = 200
"""Upper limit: a bisection ends once neighbouring floats are reached, after about sixty near 1, and more near 0."""


def at_least(right: int, count: int, share: float) -> float:
    """Return the probability of `right` or more successes in `count` trials of probability `share`.

    It is the p-value of the one-tailed binomial test of "the share is larger", as the overlap analysis of the paper
    has it with the accuracy on the clean images as `share` (section 5).

    Args:
        right: successes, 0 to `count`.
        count: trials, 0 or more.
        share: of the null hypothesis, 0 to 1.

    Raises:
        ValueError: a number is outside its bounds.
    """
    _check(right, count)
    if not 0 <= share <= 1:
        raise ValueError(f"{share} is not between 0 and 1")
    return _upper_tail(right, count, share, _log_choose(count))


def clopper_pearson(right: int, count: int, level: float = 0.995) -> Interval:
    """Return the exact two-sided interval of a share (Clopper and Pearson 1934): at least `level` in every case.

    Args:
        right: successes, 0 to `count`.
        count: trials, at least 1.
        level: confidence; the paper's is 99.5 %.

    Raises:
        ValueError: a number is outside its bounds.
    """
    _check(right, count)
    if count < 1 or not 0 < level < 1:
        raise ValueError(f"{count} trials at the level {level}")
    tail = (1 - level) / 2
    choose = _log_choose(count)
    low = 0.0 if right == 0 else _solve(right, count, tail, choose)
    # The upper bound of the successes is one minus the lower bound of the failures.
    high = 1.0 if right == count else 1 - _solve(count - right, count, tail, choose)
    return Interval(low, high)


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for the number of tests: each times their number, at most 1."""
    return [min(1.0, value * len(p_values)) for value in p_values]


def _check(right: int, count: int) -> None:
    if not 0 <= right <= count:
        raise ValueError(f"{right} right of {count}")


def _log_choose(count: int) -> NDArray[np.float64]:
    """Return (count + 1,) the logarithms of the binomial coefficients."""
    factorials = np.array([math.lgamma(number + 1) for number in range(count + 1)])
    logs: NDArray[np.float64] = factorials[-1] - factorials - factorials[::-1]
    return logs


def _upper_tail(right: int, count: int, share: float, choose: NDArray[np.float64]) -> float:
    if right == 0:
        return 1.0
    if share in (0.0, 1.0):
        return share
    numbers = np.arange(count + 1)
    logs = choose + numbers * math.log(share) + (count - numbers) * math.log1p(-share)
    if right > count * share:
        return min(1.0, float(np.exp(logs[right:]).sum()))
    # The smaller tail is the one that floats hold exactly.
    return max(0.0, 1.0 - float(np.exp(logs[:right]).sum()))


def _solve(right: int, count: int, tail: float, choose: NDArray[np.float64]) -> float:
    """Return the share at which `right` or more successes have the probability `tail`, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if _upper_tail(right, count, middle, choose) < tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2

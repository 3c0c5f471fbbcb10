"""Compare few repeated runs by Student's t: quantiles, intervals of means, and the least difference that shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openwit.training.evaluation.statistics.intervals import Interval

_HALVINGS = 200


def t_quantile(share: float, freedom: int) -> float:
    """Return the value below which Student's t lies with a probability.

    Args:
        share: the probability, more than 0 and less than 1.
        freedom: degrees of freedom, at least 1.

    Raises:
        ValueError: a number is outside its bounds.
    """
    if not 0 < share < 1 or freedom < 1:
        raise ValueError(f"share {share} at {freedom} degrees of freedom")
    if share < 0.5:
        return -t_quantile(1 - share, freedom)
    low, high = 0.0, 1.0
    while _below(high, freedom) < share:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if _below(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def _below(value: float, freedom: int) -> float:
    """Return the probability that t is below a value of at least 0, by the finite series of its distribution."""
    angle = math.atan2(value, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    if freedom % 2:
        term, total = cosine, cosine if freedom > 1 else 0.0
        for step in range(3, freedom - 1, 2):
            term *= cosine * cosine * (step - 1) / step
            total += term
        return 0.5 + (angle + sine * total) / math.pi
    term, total = 1.0, 1.0
    for step in range(2, freedom - 1, 2):
        term *= cosine * cosine * (step - 1) / step
        total += term
    return 0.5 + sine * total / 2


@dataclass(frozen=True)
class Difference:
    """How much higher the mean of one set of runs is than that of another.

    Attributes:
        value: the difference.
        low, high: its interval.
        least: the true difference that a comparison of this spread and number of runs finds in 80 % of all cases.
    """

    value: float
    low: float
    high: float
    least: float

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return Student's interval of a mean; None for fewer than two values, which have no spread."""
    if len(values) < 2:
        return None
    middle, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = t_quantile((1 + level) / 2, len(values) - 1) * spread / math.sqrt(len(values))
    return Interval(middle - half, middle + half)


def difference(one: Sequence[float], other: Sequence[float], level: float = 0.95, power: float = 0.8) -> Difference:
    """Return the mean of `other` minus that of `one`, by Student's t with a common spread.

    Args:
        one, other: values of repeated runs, at least two each.
        level: confidence of the interval.
        power: of `least`.

    Raises:
        ValueError: there are fewer than two values.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError("a spread needs two runs of each")
    freedom = len(one) + len(other) - 2
    squares = sum(float(np.var(values, ddof=1)) * (len(values) - 1) for values in (one, other))
    error = math.sqrt(squares / freedom * (1 / len(one) + 1 / len(other)))
    value, half = float(np.mean(other) - np.mean(one)), t_quantile((1 + level) / 2, freedom) * error
    return Difference(value, value - half, value + half, half + t_quantile(power, freedom) * error)

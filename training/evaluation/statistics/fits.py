"""Fit lines to accuracies on a logit scale, and bound means of a few repetitions by Student's t."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from openwit.training.evaluation.statistics.intervals import Interval

_HALVINGS = 200


def logit(share: float) -> float:
    """Return log(share / (1 - share)).

    Raises:
        ValueError: the share is not between 0 and 1, both excluded.
    """
    if not 0 < share < 1:
        raise ValueError(f"{share} has no logit")
    return math.log(share) - math.log1p(-share)


def expit(value: float) -> float:
    """Return 1 / (1 + exp(-value)), the inverse of `logit`."""
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))


@dataclass(frozen=True)
class LogitLine:
    """A line through logits of accuracies: logit(shifted) = slope · logit(base) + intercept.

    Attributes:
        slope, intercept: of the line.
        points: number of models it is fitted to.
        r_squared: share of the variance of the logits that it explains.
    """

    slope: float
    intercept: float
    points: int
    r_squared: float

    def at(self, base: float) -> float:
        """Return the accuracy under shift that the line has for an accuracy on the base set, both in (0, 1)."""
        return expit(self.slope * logit(base) + self.intercept)


def fit_logit_line(base: Sequence[float], shifted: Sequence[float]) -> LogitLine:
    """Return the least-squares line of logit-scaled accuracies (Taori et al. 2020, Miller et al. 2021).

    Args:
        base: accuracies of models on the base set, in (0, 1).
        shifted: of the same models on the shifted set, in (0, 1).

    Raises:
        ValueError: there are fewer than two models, they have one accuracy on the base set, or a share has no logit.
    """
    x, y = [logit(share) for share in base], [logit(share) for share in shifted]
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"a line needs two models or more, not {len(x)} and {len(y)}")
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((each - middle_x) ** 2 for each in x)
    total = sum((each - middle_y) ** 2 for each in y)
    if spread <= 1e-18 * (1 + middle_x**2) * len(x):
        raise ValueError("all models have the same accuracy on the base set")
    together = sum((one - middle_x) * (other - middle_y) for one, other in zip(x, y, strict=True))
    slope = together / spread
    return LogitLine(slope, middle_y - slope * middle_x, len(x), together**2 / (spread * total) if total > 0 else 1.0)


def student_quantile(level: float, freedom: int) -> float:
    """Return t such that a Student variable is within ±t with this probability.

    Args:
        level: probability, in (0, 1).
        freedom: degrees of freedom, at least 1.
    """
    if not 0 < level < 1 or freedom < 1:
        raise ValueError(f"level {level} with {freedom} degrees of freedom")
    low, high = 0.0, math.pi / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if _within(middle, freedom) < level:
            low = middle
        else:
            high = middle
    return math.tan((low + high) / 2) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """Return the probability of |t| <= tan(angle) √freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2 == 1
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    if freedom == 1:
        total = 0.0
    for number in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine * cosine * (number - 1) / number
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def student_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return the interval of the mean of repetitions by Student's t; None for a single one, which shows no spread.

    Args:
        values: of each repetition.
        level: confidence.
    """
    count = len(values)
    if count < 2:
        return None
    mean = sum(values) / count
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    half = student_quantile(level, count - 1) * deviation / math.sqrt(count)
    return Interval(mean - half, mean + half)

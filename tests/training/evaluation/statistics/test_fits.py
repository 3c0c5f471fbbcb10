"""Fits and quantiles are scipy's."""

import math

import numpy as np
import pytest

from openwit.training.evaluation.statistics.fits import (
    expit,
    fit_logit_line,
    logit,
    student_interval,
    student_quantile,
)

# scipy 1.17: stats.t.ppf(0.5 + level / 2, df).
QUANTILES = [
    (0.95, 1, 12.706204736432095),
    (0.95, 2, 4.302652729911275),
    (0.95, 3, 3.182446305284263),
    (0.95, 4, 2.776445105197793),
    (0.99, 7, 3.4994832973505),
    (0.95, 30, 2.0422724563012373),
]


@pytest.mark.parametrize(("level", "freedom", "value"), QUANTILES)
def test_students_quantiles_are_scipys(level: float, freedom: int, value: float) -> None:
    assert student_quantile(level, freedom) == pytest.approx(value, rel=1e-9)


def test_a_line_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.9, 12)
    shifted = [expit(0.9 * logit(float(share)) - 0.8 + float(rng.normal(0, 0.1))) for share in base]
    line = fit_logit_line(base.tolist(), shifted)
    theirs = stats.linregress([logit(share) for share in base], [logit(share) for share in shifted])
    assert line.slope == pytest.approx(theirs.slope)
    assert line.intercept == pytest.approx(theirs.intercept)
    assert line.r_squared == pytest.approx(theirs.rvalue**2)
    values = [0.2, 0.25, 0.27]
    found = student_interval(values)
    assert found is not None
    theirs_low, theirs_high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((theirs_low, theirs_high))


def test_a_line_through_exact_points_and_what_has_none() -> None:
    line = fit_logit_line([0.5, 0.8], [0.4, 0.7])
    assert (line.at(0.5), line.at(0.8)) == pytest.approx((0.4, 0.7))
    assert line.r_squared == pytest.approx(1)
    assert math.isclose(expit(logit(0.3)), 0.3)
    assert 0 <= expit(-800) < expit(800) == 1
    for base, shifted in (([0.5], [0.4]), ([0.5, 0.5], [0.4, 0.6]), ([0.5, 1.0], [0.4, 0.6])):
        with pytest.raises(ValueError):
            fit_logit_line(base, shifted)
    assert student_interval([0.4]) is None

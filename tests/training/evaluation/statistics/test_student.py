"""Student's t against scipy."""

import numpy as np
import pytest
from scipy import stats

from openwit.training.evaluation.statistics.student import difference, mean_interval, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 6, 7, 30, 101])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.8, 0.975, 0.9999])
def test_quantiles_are_scipys(share: float, freedom: int) -> None:
    assert t_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-9, abs=1e-12)


def test_intervals_are_scipys() -> None:
    one, other = [0.21, 0.24, 0.2], [0.31, 0.27, 0.33]
    wanted = stats.t.interval(0.95, 2, np.mean(one), stats.sem(one))
    found = mean_interval(one)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(wanted)
    test = stats.ttest_ind(other, one)
    wanted = test.confidence_interval(0.95)
    compared = difference(one, other)
    assert (compared.low, compared.high) == pytest.approx((wanted.low, wanted.high))
    assert compared.shown == (test.pvalue < 0.05)
    error = (compared.high - compared.value) / stats.t.ppf(0.975, 4)
    assert compared.least == pytest.approx(error * (stats.t.ppf(0.975, 4) + stats.t.ppf(0.8, 4)))


def test_what_has_no_spread() -> None:
    assert mean_interval([0.3]) is None
    with pytest.raises(ValueError, match="two runs"):
        difference([0.3], [0.2, 0.1])
    for share, freedom in ((0, 3), (1, 3), (0.5, 0)):
        with pytest.raises(ValueError, match="degrees of freedom"):
            t_quantile(share, freedom)

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from openwit.training.evaluation.statistics.binomial import at_least, bonferroni, clopper_pearson

CASES = [(0, 1), (1, 1), (0, 20), (20, 20), (1, 20), (7, 20), (500, 1000), (3, 3669), (3600, 3669), (40123, 50000)]


@pytest.mark.parametrize(("right", "count"), CASES)
@pytest.mark.parametrize("share", [0.0, 1e-6, 0.3, 0.8, 1.0])
def test_the_test_is_scipys(right: int, count: int, share: float) -> None:
    expected = stats.binomtest(right, count, share, alternative="greater").pvalue
    assert at_least(right, count, share) == pytest.approx(expected, rel=1e-8, abs=1e-300)


@pytest.mark.parametrize(("right", "count"), CASES)
@pytest.mark.parametrize("level", [0.995, 0.95, 0.5])
def test_the_interval_is_scipys(right: int, count: int, level: float) -> None:
    expected = stats.binomtest(right, count).proportion_ci(level, method="exact")
    found = clopper_pearson(right, count, level)
    assert (found.low, found.high) == (pytest.approx(expected.low, rel=1e-8), pytest.approx(expected.high, rel=1e-8))


def test_no_trials_decide_nothing() -> None:
    assert at_least(0, 0, 0.7) == 1
    with pytest.raises(ValueError, match="0 trials"):
        clopper_pearson(0, 0)


@pytest.mark.parametrize(("right", "count", "share"), [(2, 1, 0.5), (-1, 3, 0.5), (1, 3, 1.1), (1, 3, float("nan"))])
def test_nonsense_is_refused(right: int, count: int, share: float) -> None:
    with pytest.raises(ValueError):
        at_least(right, count, share)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.data())
def test_the_interval_is_where_the_test_begins_to_doubt(count: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(1, count))
    low = clopper_pearson(right, count, 0.99).low
    assert at_least(right, count, low) == pytest.approx(0.005, rel=1e-6)
    assert low < right / count


def test_bonferroni_multiplies_by_the_number_of_tests() -> None:
    assert bonferroni([0.001, 0.02, 0.6]) == pytest.approx([0.003, 0.06, 1.0])
    assert bonferroni([]) == []

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import ScheduleSettings
from openwit.training.config.duration import Horizon, Position
from openwit.training.engine.schedule import Schedule


def make(duration: str, warmup: str, size: int = 100, batch: int = 10) -> tuple[Schedule, Horizon]:
    settings = ScheduleSettings.model_validate({"duration": duration, "warmup": warmup})
    horizon = Horizon.of(settings.duration, size, batch)
    return Schedule(settings, horizon, 1.0), horizon


def rates(duration: str, warmup: str) -> list[float]:
    schedule, horizon = make(duration, warmup)
    return [
        schedule.rate(Position(step, step * 10, 0), Position(step + 1, (step + 1) * 10, 0))
        for step in range(horizon.total_steps or 0)
    ]


@pytest.mark.parametrize("warmup", ["10 steps", "100 samples", "1 epochs", "10%"])
def test_linear_warm_up_then_cosine(warmup: str) -> None:
    found = rates("100 steps", warmup)
    assert found[:9] == pytest.approx([(step + 1) / 10 for step in range(9)])
    assert found[9] == found[10] == 1
    assert found[55] == pytest.approx(0.5)
    assert found[-1] < 0.001
    assert all(a >= b for a, b in pairwise(found[10:]))


def test_no_warm_up_starts_at_the_peak() -> None:
    assert rates("50 steps", "0%")[0] == 1


def test_by_the_clock_the_cosine_ends_with_the_time() -> None:
    schedule, _ = make("10 min", "1 min")
    at = [schedule.rate(Position(0, 0, s), Position(0, 0, s + 1)) for s in (0, 29, 60, 330, 599.9)]
    assert at == pytest.approx([1 / 60, 0.5, 1.0, 0.5, 0.0], abs=1e-6)


@given(st.integers(1, 200), st.integers(0, 100))
def test_rates_stay_between_zero_and_the_peak(steps: int, percent: int) -> None:
    found = rates(f"{steps} steps", f"{percent}%")
    assert all(0 <= rate <= 1 for rate in found)
    assert found[0] > 0


@pytest.mark.parametrize(
    ("duration", "warmup"),
    [("10 steps", "11 steps"), ("1 epochs", "2 epochs"), ("5 min", "6 min"), ("50 samples", "9 steps")],
)
def test_a_warm_up_beyond_the_run_is_refused(duration: str, warmup: str) -> None:
    with pytest.raises(RecipeError, match=f"warmup {warmup} is longer than the run"):
        make(duration, warmup)

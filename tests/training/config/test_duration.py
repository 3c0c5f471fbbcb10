import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.training.config.duration import Duration, Horizon, Position, Trigger


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("2000 steps", 2000, "steps"),
        ("1 step", 1, "steps"),
        ("12.8e9 samples", 12.8e9, "samples"),
        ("1_000 samples", 1000, "samples"),
        ("32 epochs", 32, "epochs"),
        ("4 min", 4, "minutes"),
        ("90 s", 1.5, "minutes"),
        ("1.5h", 90, "minutes"),
        ("5%", 5, "percent"),
    ],
)
def test_reads_what_people_write(text: str, value: float, unit: str) -> None:
    duration = Duration.model_validate(text)
    assert (duration.value, duration.unit) == (value, unit)


@pytest.mark.parametrize("text", ["20", 20, "20 parsecs", "-1 steps", "steps", "1e999 steps", "", None, [1]])
def test_refuses_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError):
        Duration.model_validate(text)


@given(
    st.floats(0, 1e12, allow_nan=False),
    st.sampled_from(["steps", "samples", "epochs", "minutes", "percent"]),
)
def test_what_is_written_is_read_back(value: float, unit: str) -> None:
    duration = Duration.model_validate({"value": value, "unit": unit})
    again = Duration.model_validate(duration.model_dump())
    assert again.unit == unit
    assert math.isclose(again.value, value, rel_tol=1e-11, abs_tol=1e-300)


def test_horizons_end_exactly_on_the_sample() -> None:
    horizon = Horizon.of(Duration.model_validate("3 epochs"), epoch_samples=101, batch_size=16)
    assert horizon.total_samples == 303
    assert horizon.total_steps == 19
    assert horizon.done(Position(18, 18 * 16, 1.0)) < 1
    assert horizon.done(Position(19, 303, 1.0)) == 1


def test_minutes_follow_the_clock() -> None:
    horizon = Horizon.of(Duration.model_validate("2 min"), 100, 10)
    assert horizon.total_steps is None
    assert horizon.done(Position(7, 70, 30)) == 0.25
    assert horizon.done(Position(7, 70, 500)) == 1


@given(st.integers(1, 9), st.integers(0, 60), st.integers(0, 60))
def test_a_trigger_fires_once_a_multiple_and_not_again_after_a_restart(every: int, start: int, more: int) -> None:
    horizon = Horizon.of(Duration(value=1000, unit="steps"), 100, 10)
    trigger = Trigger(Duration(value=every, unit="steps"), horizon, Position(start, start * 10, 0))
    fired = [step for step in range(start + 1, start + more + 1) if trigger.due(Position(step, step * 10, 0))]
    assert fired == [step for step in range(start + 1, start + more + 1) if step % every == 0]


def test_no_trigger_without_a_distance() -> None:
    horizon = Horizon.of(Duration(value=10, unit="steps"), 100, 10)
    for nothing in (None, Duration(value=0, unit="steps")):
        assert not Trigger(nothing, horizon, Position()).due(Position(5, 50, 9))

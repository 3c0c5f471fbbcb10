import contextlib

import pytest

from openwit.training.run import throughput
from openwit.training.run.throughput import Ledger, Rate


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    return now


def test_every_second_is_accounted_for(clock: list[float]) -> None:
    ledger = Ledger(already=50)
    with ledger.span("loader"):
        clock[0] += 2
    clock[0] += 1
    with contextlib.suppress(RuntimeError), ledger.span("step"):
        clock[0] += 7
        raise RuntimeError
    spent = ledger.spent()
    assert (spent["loader"], spent["step"], spent["other"]) == (2, 7, 1)
    assert sum(spent.values()) == ledger.here == 10
    assert ledger.elapsed == 60


def test_rates_are_those_since_the_last_question(clock: list[float]) -> None:
    ledger = Ledger()
    rate = Rate(ledger, 1000)
    with ledger.span("loader"):
        clock[0] += 1
    clock[0] += 3
    assert rate.read(1200, 400) == (50, 0.25, 4, 100)
    clock[0] += 2
    assert rate.read(1300, 1000) == (50, 0, 2, 300)

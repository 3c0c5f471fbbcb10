"""Measure where time is spent: a ledger that accounts for every second of a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Ledger:
    """Seconds by purpose. The remaining time is `other`, so the parts always add up to the total.

    Args:
        already: seconds of training before this start (a resumed run).
    """

    PURPOSES = ("loader", "step", "eval", "checkpoint", "log")

    def __init__(self, already: float = 0.0) -> None:
        self._begin = time.perf_counter()
        self._already = already
        self._spent = dict.fromkeys(self.PURPOSES, 0.0)

    @contextmanager
    def span(self, purpose: str) -> Iterator[None]:
        """Count the block's time for a purpose. Blocks do not nest."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[purpose] += time.perf_counter() - start

    def move(self, seconds: float, *, source: str, target: str) -> None:
        """Count time for another purpose than the block in which it was measured."""
        self._spent[source] -= seconds
        self._spent[target] += seconds

    @property
    def here(self) -> float:
        """Return the seconds since this start."""
        return time.perf_counter() - self._begin

    @property
    def elapsed(self) -> float:
        """Return the seconds of training over all starts."""
        return self._already + self.here

    def spent(self) -> dict[str, float]:
        """Return the seconds of this start by purpose, including `other`."""
        whole = self.here
        return {**self._spent, "other": max(0.0, whole - sum(self._spent.values()))}


class Reading(NamedTuple):
    """Speed since the last reading: samples per second, share of the time spent waiting for the loader, seconds, and
    floating-point operations per second of this process."""

    samples_per_second: float
    wait: float
    seconds: float
    flops_per_second: float


class Rate:
    """Speed since the last reading, for display.

    Args:
        ledger: the run's ledger.
        samples: samples seen so far.
    """

    def __init__(self, ledger: Ledger, samples: int) -> None:
        self._ledger = ledger
        self._last = (samples, ledger.here, ledger.spent()["loader"], 0.0)

    def read(self, samples: int, flops: float = 0.0) -> Reading:
        """Return the speed since the last call.

        Args:
            samples: seen so far, by all processes.
            flops: performed so far in this start, by this process.
        """
        before = self._last
        self._last = (samples, self._ledger.here, self._ledger.spent()["loader"], flops)
        seconds = max(1e-9, self._last[1] - before[1])
        wait = min(1.0, (self._last[2] - before[2]) / seconds)
        return Reading((samples - before[0]) / seconds, wait, seconds, (flops - before[3]) / seconds)

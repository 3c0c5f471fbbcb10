"""Where the time goes: a ledger that accounts for every second of a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Ledger:
    """Seconds by purpose. What no purpose claims is `other`, so the parts always add up to the whole.

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
        """Books the block's time on a purpose. Blocks do not nest."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[purpose] += time.perf_counter() - start

    @property
    def here(self) -> float:
        """Seconds since this start."""
        return time.perf_counter() - self._begin

    @property
    def elapsed(self) -> float:
        """Seconds of training over all starts."""
        return self._already + self.here

    def spent(self) -> dict[str, float]:
        """Seconds of this start by purpose, `other` included."""
        whole = self.here
        return {**self._spent, "other": max(0.0, whole - sum(self._spent.values()))}


class Rate:
    """Speed since the last question, for display.

    Args:
        ledger: the run's ledger.
        samples: samples seen so far.
    """

    def __init__(self, ledger: Ledger, samples: int) -> None:
        self._ledger = ledger
        self._last = (samples, ledger.here, ledger.spent()["loader"])

    def read(self, samples: int) -> tuple[float, float]:
        """(samples a second, share of the time that went into waiting for the loader) since the last call."""
        before = self._last
        self._last = (samples, self._ledger.here, self._ledger.spent()["loader"])
        seconds = max(1e-9, self._last[1] - before[1])
        return (samples - before[0]) / seconds, min(1.0, (self._last[2] - before[2]) / seconds)

"""Measure whether the thread that launches a model's work gets to run: a loader in threads can keep it from that.

Each operation that is launched gives Python's lock up and takes it again, so threads that prepare batches in between
make every launch wait. That is measured where the launches are: once a step a few tiny operations are timed, by the
clock and by the time that the thread itself ran; the difference is time in which it wanted to run and could not. On a
GPU the time between the end of a step's work and the beginning of the next one's is measured too, by events of the
device that nobody waits for.
"""

import time
from collections import deque
from typing import Any

import torch

_OPERATIONS = 24


class LaunchWatch:
    """Watches the launching thread of a run; used by that thread.

    Args:
        device: that work is launched for.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._value = torch.zeros(1)
        self._wall = self._ran = self._gaps = 0.0
        self._since = time.perf_counter()
        self._end: Any = None
        self._pairs: deque[tuple[Any, Any]] = deque()

    def begin(self) -> None:
        """Note that a step's batch is there and its work is launched now."""
        if self._is_cuda:
            begin = self._event()
            if self._end is not None:
                self._pairs.append((self._end, begin))
        wall, ran = time.perf_counter(), time.thread_time()
        with torch.no_grad():
            for _ in range(_OPERATIONS):
                self._value.add_(0.0)
        self._ran += time.thread_time() - ran
        self._wall += time.perf_counter() - wall

    def end(self) -> None:
        """Note that a step's work is launched."""
        if self._is_cuda:
            self._end = self._event()

    def read(self) -> dict[str, float]:
        """Return what was measured since the last reading.

        `launch_wait` is the share of the time in which the thread wanted to launch and did not run; on a GPU,
        `device_gap` the share in which the device had no work between two steps.
        """
        found = {"launch_wait": max(0.0, 1 - self._ran / self._wall) if self._wall else 0.0}
        self._wall = self._ran = 0.0
        if self._is_cuda:
            while self._pairs and self._pairs[0][1].query():
                end, begin = self._pairs.popleft()
                self._gaps += end.elapsed_time(begin) / 1000
            now = time.perf_counter()
            found["device_gap"] = min(1.0, self._gaps / max(1e-9, now - self._since))
            self._gaps, self._since = 0.0, now
        return found

    def _event(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

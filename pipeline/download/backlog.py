"""Count the bodies that a downloader's caller works on, so that the network waits for nobody and memory is limited."""

import threading
from collections.abc import Callable

_TOGETHER = 16


def _nobody() -> None:
    """Wake nobody."""


class Backlog:
    """The number of downloaded bodies that are still being decoded. Thread-safe.

    While there are many, a `Downloader` starts less, but goes on with what runs: timers, retries and crawl delays.

    Attributes:
        awaited: the downloader waits for bodies to be done; else several wake it together, since each wake-up costs a
            turn of its loop.
    """

    def __init__(self) -> None:
        self.awaited = True
        self._lock = threading.Lock()
        self._count = self._unseen = 0
        self._wake: Callable[[], None] = _nobody

    def on_done(self, wake: Callable[[], None]) -> None:
        """Call `wake` when bodies are done, from the thread that ends one."""
        self._wake = wake

    def wake(self) -> None:
        """End the downloader's wait: its source may have more. Thread-safe."""
        self._wake()

    def add(self) -> None:
        """Count a body as being worked on."""
        with self._lock:
            self._count += 1

    def done(self) -> None:
        """Count a body as done with."""
        with self._lock:
            self._count -= 1
            self._unseen += 1
            wake = self.awaited or self._unseen >= _TOGETHER
            if wake:
                self._unseen = 0
        if wake:
            self._wake()

    def __len__(self) -> int:
        return self._count

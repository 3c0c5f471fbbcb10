"""Count the bodies that a downloader's caller works on, so that the network waits for nobody and memory is limited."""

import threading
from collections.abc import Callable


def _nobody() -> None:
    """Wake nobody."""


class Backlog:
    """The number of downloaded bodies that are still being decoded. Thread-safe.

    While there are many, a `Downloader` starts less, but goes on with what runs: timers, retries and crawl delays.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._wake: Callable[[], None] = _nobody

    def on_done(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever a body is done, from the thread that ends it."""
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
        self._wake()

    def __len__(self) -> int:
        return self._count

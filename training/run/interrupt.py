"""Record SIGINT and SIGTERM, so that the loop can check for them between steps, save and stop."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """Record the first SIGINT or SIGTERM while the block runs; a second one has its usual effect.

    Outside the main thread, where Python does not allow handlers, nothing is installed.

    Args:
        patient: ignore a second signal. A launcher of several processes forwards signals, so that a process may
            receive one twice; the launcher kills processes that take too long.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, patient: bool = False) -> None:
        self._patient = patient
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.received is None:
            self.received = signal.Signals(number)
        if not self._patient:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

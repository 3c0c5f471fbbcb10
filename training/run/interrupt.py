"""SIGINT and SIGTERM as a question the loop asks between two steps, so that it can save and leave."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """While the block runs, the first SIGINT or SIGTERM is only noted; a second one acts as it would have.

    Outside the main thread, where Python allows no handlers, nothing is installed.

    Args:
        patient: take no notice of a second one. A launcher of several processes passes on what it gets, so that a
            process may receive it twice; it kills processes that take too long.
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

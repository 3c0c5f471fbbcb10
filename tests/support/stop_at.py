"""A display of training that interrupts the run at a step, as a cluster does that wants its machine back."""

import signal
from typing import Any

from openwit.training.run.progress import SilentDisplay


class StopAt(SilentDisplay):
    """Send this process SIGTERM when a step is shown; never with None."""

    def __init__(self, step: int | None) -> None:
        self._step = step

    def wants(self) -> bool:
        """Return True: every step is shown."""
        return True

    def show(self, status: Any) -> None:
        """Send the signal at the step."""
        if status.step == self._step:
            signal.raise_signal(signal.SIGTERM)

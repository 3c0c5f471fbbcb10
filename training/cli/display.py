"""Progress on a console: one live line on a terminal, or a plain line every few seconds elsewhere."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from openwit.schemas.common.printable import printable
from openwit.training.run.progress import Display, Status


class PlainDisplay:
    """One line every `seconds`, for logs and pipes."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._seconds = seconds
        self._last = time.monotonic()

    def say(self, sentence: str) -> None:
        """See `Display`."""
        self._console.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)

    def wants(self) -> bool:
        """See `Display`."""
        return time.monotonic() - self._last >= self._seconds

    def show(self, status: Status) -> None:
        """See `Display`."""
        self._last = time.monotonic()
        self.say(status.line())

    def activity(self, what: str, done: int, whole: int) -> None:
        """See `Display`."""
        if self.wants():
            self._last = time.monotonic()
            self.say(f"{what}: {done}/{whole}")

    def close(self) -> None:
        """See `Display`."""


class LiveDisplay:
    """A progress bar and a status line, on a terminal."""

    def __init__(self, console: Console) -> None:
        columns = (
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.description}", markup=False),
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("starting", total=1.0)
        self._progress.start()
        self._last = 0.0

    def say(self, sentence: str) -> None:
        """See `Display`."""
        self._progress.console.print(printable(sentence), markup=False, highlight=False)

    def wants(self) -> bool:
        """See `Display`."""
        return time.monotonic() - self._last >= 1.0

    def show(self, status: Status) -> None:
        """See `Display`."""
        self._last = time.monotonic()
        self._progress.update(self._task, completed=status.done, description=status.line())

    def activity(self, what: str, done: int, whole: int) -> None:
        """See `Display`."""
        self._progress.update(self._task, description=f"{what}: {done}/{whole}")

    def close(self) -> None:
        """See `Display`."""
        self._progress.stop()


def make_display(console: Console, line_seconds: float) -> Display:
    """Return the display that suits the console."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console, line_seconds)

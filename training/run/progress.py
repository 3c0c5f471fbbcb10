"""What a person sees while a run trains: one live line on a terminal, or a plain line every so often elsewhere."""

import time
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


@dataclass(frozen=True)
class Status:
    """Where a run is. `done` in [0, 1]; `left` in seconds, None until it can be told.

    `mfu` is the share of the GPU's peak that is used, `memory` the most bytes held; None where neither is known.
    """

    step: int
    total_steps: int | None
    samples: int
    rate: float
    loss: float
    logit_scale: float | None
    lr: float
    wait: float
    done: float
    left: float | None
    mfu: float | None = None
    memory: int | None = None

    def line(self) -> str:
        """The status in one line."""
        steps = f"{self.step}/{self.total_steps}" if self.total_steps is not None else str(self.step)
        left = "" if self.left is None else f"  left {clock(self.left)}"
        scale = "" if self.logit_scale is None else f"  scale {self.logit_scale:.1f}"
        mfu = "" if self.mfu is None else f"  mfu {100 * self.mfu:.1f}%"
        memory = "" if self.memory is None else f"  mem {self.memory / 2**30:.1f} GiB"
        return (
            f"step {steps}  {self.rate:.0f} samples/s  loss {self.loss:.3f}{scale}"
            f"  lr {self.lr:.2e}  wait {100 * self.wait:.1f}%{mfu}{memory}{left}"
        )


def clock(seconds: float) -> str:
    """Seconds as 4:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Display(Protocol):
    """Somewhere to show progress."""

    def say(self, sentence: str) -> None:
        """Shows a sentence that stays."""
        ...

    def wants(self) -> bool:
        """Whether a new status would be shown now; a status costs a little to compute."""
        ...

    def show(self, status: Status) -> None:
        """Shows a status."""
        ...

    def activity(self, what: str, done: int, whole: int) -> None:
        """Shows that something other than training is under way."""
        ...

    def close(self) -> None:
        """Ends the display."""
        ...


class PlainDisplay:
    """Lines, one every `seconds`, for logs and pipes."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._seconds = seconds
        self._last = time.monotonic()

    def say(self, sentence: str) -> None:
        """See `Display`."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

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
    """A bar and a line that renew themselves, on a terminal."""

    def __init__(self, console: Console) -> None:
        columns = (BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("starting", total=1.0)
        self._progress.start()
        self._last = 0.0

    def say(self, sentence: str) -> None:
        """See `Display`."""
        self._progress.console.print(sentence, markup=False, highlight=False)

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


class SilentDisplay:
    """Nothing, for processes that leave the talking to the first."""

    def say(self, sentence: str) -> None:
        """See `Display`."""

    def wants(self) -> bool:
        """See `Display`."""
        return False

    def show(self, status: Status) -> None:
        """See `Display`."""

    def activity(self, what: str, done: int, whole: int) -> None:
        """See `Display`."""

    def close(self) -> None:
        """See `Display`."""


def make_display(console: Console, line_seconds: float) -> Display:
    """The display that fits the console."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console, line_seconds)

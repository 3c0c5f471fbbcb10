"""Progress of a run: what a display shows, and displays that need no terminal."""

import logging
from dataclasses import dataclass
from typing import Protocol

from openwit.schemas.common.printable import printable

logger = logging.getLogger("openwit.training")


@dataclass(frozen=True)
class Status:
    """Progress of a run.

    Attributes:
        step, total_steps: done, and in all; None if the clock decides.
        samples: seen so far, by all processes.
        rate: samples per second; None until it is known.
        loss, logit_scale, lr: of the last step; no logit scale for models without one.
        wait: share of the time spent waiting for the loader.
        done: share of the run, in [0, 1].
        left: seconds to the end; None until it is known.
        mfu: share of the GPU's peak that is used; None if it is not known.
        memory: peak bytes of the GPU; None on a CPU.
    """

    step: int
    total_steps: int | None
    samples: int
    rate: float | None
    loss: float
    logit_scale: float | None
    lr: float
    wait: float
    done: float
    left: float | None
    mfu: float | None = None
    memory: int | None = None

    def line(self) -> str:
        """Return the status in one line."""
        steps = f"{self.step}/{self.total_steps}" if self.total_steps is not None else str(self.step)
        left = "" if self.left is None else f"  left {clock(self.left)}"
        scale = "" if self.logit_scale is None else f"  scale {self.logit_scale:.1f}"
        mfu = "" if self.mfu is None else f"  mfu {100 * self.mfu:.1f}%"
        memory = "" if self.memory is None else f"  mem {self.memory / 2**30:.1f} GiB"
        rate = "" if self.rate is None else f"  {self.rate:.{0 if self.rate >= 10 else 1}f} samples/s"
        return (
            f"step {steps}{rate}  loss {self.loss:.3f}{scale}"
            f"  lr {self.lr:.2e}  wait {100 * self.wait:.1f}%{mfu}{memory}{left}"
        )


def clock(seconds: float) -> str:
    """Format seconds as 4:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Display(Protocol):
    """Shows the progress of a run. Pass your own to `fit`."""

    def say(self, sentence: str) -> None:
        """Show a sentence permanently."""
        ...

    def wants(self) -> bool:
        """Return whether a new status would be shown now; a status takes a little time to compute."""
        ...

    def show(self, status: Status) -> None:
        """Show a status."""
        ...

    def activity(self, what: str, done: int, whole: int) -> None:
        """Show the progress of something other than training, such as an evaluation."""
        ...

    def close(self) -> None:
        """End the display."""
        ...


class SilentDisplay:
    """Shows nothing; for the processes of a run other than the first."""

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


class LoggingDisplay(SilentDisplay):
    """Sends sentences to the logger `openwit.training`, which is silent unless logging is configured."""

    def say(self, sentence: str) -> None:
        """See `Display`: level WARNING for warnings, else INFO."""
        logger.log(logging.WARNING if sentence.startswith("warning: ") else logging.INFO, printable(sentence))

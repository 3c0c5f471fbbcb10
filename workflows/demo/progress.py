"""Show the progress of the demo's commands on stderr: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import rich.progress

from openwit.schemas.common.command import make_console

_SECONDS_BETWEEN_LINES = 5.0


class Advance(Protocol):
    """Called with the amount of work done since the last call."""

    def __call__(self, steps: int = 1) -> None:
        """Counts `steps` more as done."""


@contextmanager
def progress(label: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Show `label`, done of total, rate and time left while the block runs; yield the function that advances it."""
    if sys.stderr.isatty():
        with rich.progress.Progress(
            rich.progress.TextColumn(label),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn(unit),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            console=make_console(stderr=True),
        ) as bar:
            task = bar.add_task(label, total=total)
            yield lambda steps=1: bar.advance(task, steps)
        return
    lines = _Lines(label, total, unit)
    yield lines
    lines.show()


class _Lines:
    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._done = 0
        self._begun = self._shown = time.monotonic()

    def __call__(self, steps: int = 1) -> None:
        self._done += steps
        if time.monotonic() - self._shown >= _SECONDS_BETWEEN_LINES:
            self.show()

    def show(self) -> None:
        self._shown = time.monotonic()
        seconds = max(self._shown - self._begun, 1e-9)
        rate = self._done / seconds
        of = "" if self._total is None else f" of {self._total:,}"
        left = self._total - self._done if self._total else 0
        rest = f", {left / rate:.0f} s left" if left > 0 and rate > 0 else f" in {seconds:.1f} s"
        print(f"{self._label}: {self._done:,}{of} {self._unit}, {rate:,.0f}/s{rest}", file=sys.stderr, flush=True)

"""Progress of work in this process: a bar on a terminal, a line every ten seconds elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_LINE_SECONDS = 10.0


class Steps:
    """Shows how far a labelled piece of work is; a context.

    Args:
        unit: of what is counted; `bytes` are shown as gigabytes.
    """

    def __init__(self, console: Console, unit: str) -> None:
        self._console = console
        self._unit = unit
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._label = ""
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            label, note = TextColumn("  {task.description}"), TextColumn("{task.fields[note]}")
            columns = (label, BarColumn(), note, TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=1.0, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, label: str, done: int, of: int) -> None:
        """So much of a whole is done. A new label starts the clock anew."""
        now = time.monotonic()
        if label != self._label:
            self._label, self._started = label, now
        note = self._note(done, of, now - self._started)
        if self._bar is not None:
            self._bar.update(self._task, description=label, completed=done / max(of, 1), note=note)
        elif now - self._said >= _LINE_SECONDS:
            self._said = now
            self._console.print(f"  {label}: {note}", highlight=False)

    def _note(self, done: int, of: int, seconds: float) -> str:
        rate = done / max(seconds, 1e-6)
        left = f", {(of - done) / rate:.0f} s left" if 0 < done < of and seconds > 1 else ""
        if self._unit == "bytes":
            return f"{done / 1e9:.2f} of {of / 1e9:.2f} GB, {rate / 1e6:,.0f} MB/s{left}"
        return f"{done:,} of {of:,} {self._unit}, {rate:,.1f}/s{left}"

"""Show progress on the console: a bar on a terminal, a line every ten seconds elsewhere."""

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from openwit.pipeline.execution.progress import JobProgress, Snapshot
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.printable import printable

_POLL_SECONDS = 0.5
_LINE_SECONDS = 10.0
_EVIDENCE_SECONDS = 5.0
_EVIDENCE_SHARE = 0.005
_REASONS_SHOWN = 3


class ConsoleProgress:
    """Show the progress of jobs; see `openwit.pipeline.execution.progress.Progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def watch(self, label: str, folder: Path, names: Sequence[str], unit: str) -> Iterator[None]:
        """Show the progress of tasks while the block runs."""
        stop = threading.Event()
        show = self._show_bar if self._console.is_terminal else self._print_lines
        watcher = threading.Thread(target=show, args=(label, folder, names, unit, stop), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join(_LINE_SECONDS)  # it is a daemon: a terminal that does not take a line must not hold the work

    def status(self, message: str) -> AbstractContextManager[object]:
        """Show a spinner on a terminal."""
        return self._console.status(message)

    def _show_bar(self, label: str, folder: Path, names: Sequence[str], unit: str, stop: threading.Event) -> None:
        with Progress(*_columns(), console=self._console, transient=True) as progress:
            bar = progress.add_task(label, total=1.0, note="")
            pace, job = Pace(), JobProgress(folder, names)
            while not stop.wait(_POLL_SECONDS):
                snapshot = job.look()
                note = progress_note(snapshot, len(names), unit, pace, time.monotonic())
                progress.update(bar, completed=snapshot.fraction, note=note)

    def _print_lines(self, label: str, folder: Path, names: Sequence[str], unit: str, stop: threading.Event) -> None:
        pace, job = Pace(), JobProgress(folder, names)
        while not stop.wait(_LINE_SECONDS):
            snapshot = job.look()
            note = progress_note(snapshot, len(names), unit, pace, time.monotonic())
            self._console.print(f"  {label}: {snapshot.fraction:.0%}, {note}", highlight=False)
            sys.stdout.flush()


class ConsoleMessages(logging.Handler):
    """Print OpenWIT's warnings and errors, indented below the command's own lines, and errors of other libraries.

    It belongs on the root logger, where it also keeps other libraries from adding a handler that prints each message
    a second time.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message of a record."""
        if record.name.partition(".")[0] == "openwit":
            self._console.print(f"  {record.getMessage()}", highlight=False, markup=False, soft_wrap=True)
        elif record.levelno >= logging.ERROR and not _tells_of_ours(record) and not _is_beams_traceback(record):
            print(printable(f"{record.name}: {self.format(record)}", lines=True), file=sys.stderr)


def _tells_of_ours(record: logging.LogRecord) -> bool:
    """Return whether an engine logs the traceback of an error that the command prints as its sentence anyway."""
    error = record.exc_info[1] if record.exc_info else None
    return isinstance(error, OpenWITError | KeyboardInterrupt) or f"{OpenWITError.__module__}." in record.getMessage()


def _is_beams_traceback(record: logging.LogRecord) -> bool:
    """Return whether Beam logs a traceback: what fails the job ends the command with a sentence of its own."""
    if "/apache_beam/" not in record.pathname.replace("\\", "/") or logging.getLogger("openwit").isEnabledFor(
        logging.DEBUG
    ):
        return False
    return bool(record.exc_info) or "Traceback (most recent call last)" in record.getMessage()


def show_messages(console: Console) -> None:
    """Show messages on a console from now on, instead of the console of an earlier call."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, ConsoleMessages):
            root.removeHandler(handler)
    root.addHandler(ConsoleMessages(console))
    root.setLevel(logging.ERROR)
    logging.getLogger("openwit").setLevel(logging.WARNING)


class Steps:
    """Show the progress of work in this process; a context manager.

    Args:
        unit: what is counted; `bytes` are shown as gigabytes.
    """

    def __init__(self, console: Console, unit: str) -> None:
        self._console = console
        self._unit = unit
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._label = ""
        self._pace = Pace()
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar = Progress(*_columns(), console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=1.0, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, label: str, done: int, of: int) -> None:
        """Show that `done` of `of` units are done. A new label restarts the clock."""
        now = time.monotonic()
        if label != self._label:
            self._label, self._pace = label, Pace()
        note = self._note(done, of, now)
        if self._bar is not None:
            self._bar.update(self._task, description=label, completed=done / max(of, 1), note=note)
        elif now - self._printed >= _LINE_SECONDS:
            self._printed = now
            self._console.print(f"  {label}: {note}", highlight=False)

    def _note(self, done: int, of: int, now: float) -> str:
        rate, seconds = self._pace.rate_and_left(now, done, done / max(of, 1))
        left = f", {seconds:.0f} s left" if seconds is not None else ""
        if self._unit == "bytes":
            speed = f", {rate / 1e6:,.0f} MB/s" if rate is not None else ""
            return f"{done / 1e9:.2f} of {of / 1e9:.2f} GB{speed}{left}"
        speed = f", {rate:,.1f}/s" if rate is not None else ""
        return f"{done:,} of {of:,} {self._unit}{speed}{left}"


def _columns() -> tuple[TextColumn, BarColumn, TextColumn, TimeElapsedColumn]:
    return (
        TextColumn("  {task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )


class Pace:
    """How fast work goes, from the first sight of it on: nothing is said before there is evidence.

    Work that an earlier run did, or that was done in the first moments, does not predict the speed of the rest.
    """

    def __init__(self) -> None:
        self._first: tuple[float, float, float] | None = None

    def rate_and_left(self, now: float, rows: float, fraction: float) -> tuple[float | None, float | None]:
        """Return rows per second and the seconds left, None for what is not known yet."""
        if self._first is None:
            if rows or fraction:
                self._first = (now, rows, fraction)
            return None, None
        start, first_rows, first_fraction = self._first
        elapsed = now - start
        if elapsed < _EVIDENCE_SECONDS:
            return None, None
        rate = (rows - first_rows) / elapsed if rows > first_rows else None
        gained = fraction - first_fraction
        left = elapsed * (1.0 - fraction) / gained if gained > _EVIDENCE_SHARE and fraction < 1.0 else None
        return rate, left


def progress_note(snapshot: Snapshot, tasks: int, unit: str, pace: Pace, now: float) -> str:
    """Return what is known of the progress: files, rows, their rate and the time left, the most frequent reasons."""
    parts = [f"{snapshot.tasks_done}/{tasks} files"]
    rate, left = pace.rate_and_left(now, snapshot.rows, snapshot.fraction)
    if snapshot.rows:
        parts.append(f"{snapshot.rows:,} {unit}")
    if rate is not None:
        parts.append(f"{rate:,.0f}/s")
    if left is not None:
        parts.append(f"{left / 60:.0f} min left" if left > 90 else f"{left:.0f} s left")
    note = ", ".join(parts)
    if snapshot.reasons:
        shown = snapshot.reasons.most_common(_REASONS_SHOWN)
        more = ", …" if len(snapshot.reasons) > _REASONS_SHOWN else ""
        dropped = ", ".join(f"{reason} {n:,}" for reason, n in shown)
        note += f"; {snapshot.reasons.total():,} dropped: {dropped}{more}"
    return note

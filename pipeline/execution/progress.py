"""Progress of a running job, read from the files its tasks leave: works whatever process or machine they run on."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from openwit.pipeline.execution.tasks import PROGRESS, RESULTS, Task

_POLL_SECONDS = 0.5
_LINE_SECONDS = 10.0


class Snapshot:
    """How far the tasks of a job are: share done in [0, 1] and rows so far."""

    def __init__(self, folder: Path, tasks: list[Task]) -> None:
        self.tasks_done = 0
        self.rows = 0
        share = 0.0
        for task in tasks:
            if (folder / RESULTS / f"{task.name}.json").exists():
                self.tasks_done += 1
                share += 1.0
            state = _read(folder / PROGRESS / f"{task.name}.json")
            self.rows += int(state.get("rows") or 0)
            if not (folder / RESULTS / f"{task.name}.json").exists():
                share += min(float(state.get("fraction") or 0.0), 1.0)
        self.fraction = share / max(len(tasks), 1)


@contextmanager
def watching(console: Console, label: str, folder: Path, tasks: list[Task], unit: str) -> Iterator[None]:
    """Shows progress while the block runs: a bar on a terminal, a line every ten seconds elsewhere."""
    stop = threading.Event()
    show = _bar if console.is_terminal else _lines
    watcher = threading.Thread(target=show, args=(console, label, folder, tasks, unit, stop), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _bar(console: Console, label: str, folder: Path, tasks: list[Task], unit: str, stop: threading.Event) -> None:
    columns = (TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(label, total=1.0, note="")
        started = time.monotonic()
        while not stop.wait(_POLL_SECONDS):
            snapshot = Snapshot(folder, tasks)
            progress.update(bar, completed=snapshot.fraction, note=_note(snapshot, tasks, unit, started))


def _lines(console: Console, label: str, folder: Path, tasks: list[Task], unit: str, stop: threading.Event) -> None:
    started = time.monotonic()
    while not stop.wait(_LINE_SECONDS):
        snapshot = Snapshot(folder, tasks)
        console.print(f"  {label}: {snapshot.fraction:.0%}, {_note(snapshot, tasks, unit, started)}", highlight=False)
        sys.stdout.flush()


def _note(snapshot: Snapshot, tasks: list[Task], unit: str, started: float) -> str:
    elapsed = max(time.monotonic() - started, 1e-6)
    parts = [f"{snapshot.tasks_done}/{len(tasks)} files"]
    if snapshot.rows:
        parts.append(f"{snapshot.rows:,} {unit}")
        parts.append(f"{snapshot.rows / elapsed:,.0f}/s")
    if 0.02 < snapshot.fraction < 1.0:
        left = elapsed * (1.0 - snapshot.fraction) / snapshot.fraction
        parts.append(f"{left / 60:.0f} min left" if left > 90 else f"{left:.0f} s left")
    return ", ".join(parts)


def _read(path: Path) -> dict[str, float | None]:
    try:
        state: dict[str, float | None] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return state

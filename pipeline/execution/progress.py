"""Read the progress of a running job from the files that its tasks write, on any process or machine."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from openwit.pipeline.execution.tasks import PROGRESS, RESULTS


class Progress(Protocol):
    """Show a user what runs. The library's default shows nothing; the commands have one for the terminal."""

    def watch(self, label: str, folder: Path, names: Sequence[str], unit: str) -> AbstractContextManager[None]:
        """Show the progress of tasks while the block runs.

        Args:
            label: of the job.
            folder: of the stage, in which the tasks report.
            names: of the tasks.
            unit: of the rows that they count.
        """
        ...

    def status(self, message: str) -> AbstractContextManager[object]:
        """Show that something without a measure of progress runs."""
        ...


class SilentProgress:
    """Show nothing."""

    def watch(self, label: str, folder: Path, names: Sequence[str], unit: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """See `Progress`."""
        return nullcontext()

    def status(self, message: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """See `Progress`."""
        return nullcontext()


SILENT = SilentProgress()


@dataclass(frozen=True)
class Snapshot:
    """The progress of the tasks of a job.

    Attributes:
        fraction: of the work that is done, in [0, 1].
        tasks_done: finished tasks.
        rows: rows that the tasks have counted so far.
        reasons: why rows were dropped so far, of tasks that report it.
    """

    fraction: float
    tasks_done: int
    rows: int
    reasons: Counter[str]


class JobProgress:
    """Follow the tasks of a job. Each look lists two folders and reads the files of running tasks only.

    Args:
        folder: of the stage, in which the tasks report.
        names: of the tasks.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._left = set(names)
        self._tasks = len(names)
        self._rows = 0
        self._reasons: Counter[str] = Counter()

    def look(self) -> Snapshot:
        """Return the progress now."""
        for name in self._left & _names_in(self._folder / RESULTS):
            state = self._state(name)
            self._rows += int(state.get("rows") or 0)
            self._reasons.update(state.get("reasons") or {})
            self._left.remove(name)
        rows, reasons, running = self._rows, Counter(self._reasons), 0.0
        for name in self._left & _names_in(self._folder / PROGRESS):
            state = self._state(name)
            rows += int(state.get("rows") or 0)
            reasons.update(state.get("reasons") or {})
            running += min(float(state.get("fraction") or 0.0), 1.0)
        done = self._tasks - len(self._left)
        return Snapshot((done + running) / max(self._tasks, 1), done, rows, reasons)

    def _state(self, name: str) -> dict[str, Any]:
        return _read(self._folder / PROGRESS / f"{name}.json")


def _names_in(folder: Path) -> set[str]:
    try:
        return {name.removesuffix(".json") for name in os.listdir(folder)}
    except FileNotFoundError:
        return set()


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}

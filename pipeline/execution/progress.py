"""Read the progress of a running job from the files that its tasks write, on any process or machine."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
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


class Snapshot:
    """The progress of the tasks of a job.

    Attributes:
        fraction: of the work that is done, in [0, 1].
        tasks_done: finished tasks.
        rows: rows that the tasks have counted so far.
        reasons: why rows were dropped so far, of tasks that report it.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.tasks_done = 0
        self.rows = 0
        self.reasons: Counter[str] = Counter()
        done = 0.0
        for name in names:
            finished = (folder / RESULTS / f"{name}.json").exists()
            state = _read(folder / PROGRESS / f"{name}.json")
            self.rows += int(state.get("rows") or 0)
            self.reasons.update(state.get("reasons") or {})
            self.tasks_done += finished
            done += 1.0 if finished else min(float(state.get("fraction") or 0.0), 1.0)
        self.fraction = done / max(len(names), 1)


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}

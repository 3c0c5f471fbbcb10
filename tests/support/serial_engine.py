"""An engine in a page: jobs run in this process, in memory, and blobs of a group arrive in a shuffled order."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openwit.pipeline.execution.jobs import Addend, Emitted, FileTask, RoundsJob, Task, TaskResult
from openwit.pipeline.execution.tasks import run_file_task, user_errors_of


class SerialEngine:
    """Runs jobs one step after the other.

    Args:
        seed: of the order in which tasks run, keys are taken and blobs of a key arrive.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def prepare(self) -> None:
        """Nothing to start."""

    def run_tasks(
        self,
        folder: Path,
        tasks: Sequence[Task[Any]],
        label: str,  # noqa: ARG002
        file_task: FileTask[Any],
    ) -> list[TaskResult]:
        """See `Engine.run_tasks`."""
        results = {}
        with user_errors_of(folder):
            file_task.setup()
            for task in self._shuffled(tasks):
                results[task.number] = run_file_task(folder, task, file_task)
        return [results[task.number] for task in tasks]

    def run_rounds(self, folder: Path, job: RoundsJob[Any]) -> dict[str, np.ndarray]:
        """See `Engine.run_rounds`."""
        streams: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
        sums = {total.name: np.zeros(total.length, np.int64) for total in job.sums}

        def take(emitted: Emitted, writes: tuple[str, ...]) -> None:
            for item in emitted:
                if isinstance(item, Addend):
                    sums[item.sum] += item.vector
                else:
                    assert item.stream in writes, f"{item.stream} is emitted and not declared"
                    streams[item.stream].append((item.key, item.blob))

        if job.file_task is not None:
            self.run_tasks(folder, job.tasks, job.label, job.file_task)
        with user_errors_of(folder):
            job.emitter.setup()
            for task in self._shuffled(job.tasks):
                take(job.emitter.emit(task), job.writes)
            for part in job.rounds:
                groups: dict[int, dict[str, list[bytes]]] = {}
                for name in part.reads:
                    for key, blob in self._shuffled(streams[name]):
                        groups.setdefault(key, {read: [] for read in part.reads})[name].append(blob)
                part.grouping.setup()
                for key in self._shuffled(groups):
                    take(part.grouping.process(key, groups[key]), part.writes)
        return sums

    def _shuffled(self, items: Iterable[Any]) -> list[Any]:
        order = list(items)
        self._random.shuffle(order)
        return order

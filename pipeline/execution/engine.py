"""Define the protocol of an engine, which runs jobs.

`pool_engine` implements it on worker processes of this machine, `beam_engine` on Apache Beam.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from openwit.pipeline.execution.jobs import FileTask, RoundsJob, Task, TaskResult


class Engine(Protocol):
    """Run file tasks and rounds, in this process or on many machines that share the stage's folder."""

    def check(self) -> None:
        """Raise a NetworkError if the cluster does not answer: better now than after hours of other steps."""
        ...

    def prepare(self) -> None:
        """Begin to start what outlives a job, without waiting for it: a stage is about to run."""
        ...

    def close(self) -> None:
        """End workers that outlive a job."""
        ...

    def run_tasks(
        self, folder: Path, tasks: Sequence[Task[Any]], label: str, file_task: FileTask[Any]
    ) -> list[TaskResult]:
        """Run the tasks that have no result in the folder yet; return the results of all, in task order.

        Raises:
            OpenWITError: a task met bad input, or the disk is full.
        """
        ...

    def run_rounds(self, folder: Path, job: RoundsJob[Any]) -> dict[str, np.ndarray]:
        """Run a job of rounds whose files are below the folder; return its sums by name, int64 vectors.

        Raises:
            OpenWITError: a task met bad input, or the disk is full.
        """
        ...


_cores_limit: int | None = None


def limit_cores(cores: int) -> None:
    """Let this process use fewer cores, because others on this machine share them with it."""
    global _cores_limit
    _cores_limit = cores


def default_workers() -> int:
    """Return the number of cores this process may use."""
    if _cores_limit is not None:
        return _cores_limit
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)

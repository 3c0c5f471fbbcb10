"""Run jobs on Apache Beam: its in-process runner, or any other Beam runner with its own flags.

Only this module and its neighbours named `beam_…` import Beam.
"""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openwit.pipeline.execution import beam_quiet  # noqa: F401

# isort: split
import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from openwit.pipeline.execution.beam_flags import check_endpoint, check_flags, job_endpoint
from openwit.pipeline.execution.beam_graph import TASKS, build_rounds, build_tasks, sum_path, write_tasks
from openwit.pipeline.execution.beam_parts import prism_flags
from openwit.pipeline.execution.beam_runners import default_flags, job_flags, runner_class
from openwit.pipeline.execution.jobs import FileTask, RoundsJob, Task, TaskResult
from openwit.pipeline.execution.runner_faults import refused_runner, runner_faults
from openwit.pipeline.execution.tasks import results_of, user_errors_of
from openwit.schemas.common.errors import OpenWITError, RecipeError
from openwit.schemas.common.storage.cache import cached


@dataclass(frozen=True)
class BeamEngine:
    """Run jobs on a Beam runner; see `openwit.pipeline.execution.engine.Engine`.

    Args:
        name: `beam` or another name of `openwit.pipeline.execution.beam_runners`, or of a runner as Beam knows it.
        workers: worker processes of the runner `beam`; 1 runs in this process (starting more costs seconds a job).
        flags: Beam's own flags, passed on unchanged.
    """

    name: str = "beam"
    workers: int = 1
    flags: Sequence[str] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        """Raise a RecipeError for an unknown runner or no worker."""
        runner_class(self.name)
        if self.workers < 1:
            raise RecipeError(f"workers must be at least 1, got {self.workers}")
        if self.name == "prism" and job_endpoint(self.flags) is None:
            object.__setattr__(self, "flags", (*prism_flags(self.flags), *self.flags))
        check_flags(self.name, self.flags)

    def check(self) -> None:
        """Raise an error if the runner's cluster does not answer or it cannot be made: better now than hours later."""
        check_endpoint(self.name, self.flags)
        self._make_pipeline(self.options())

    def prepare(self) -> None:
        """Do nothing: see `Engine.prepare`."""

    def close(self) -> None:
        """Do nothing: Beam ends its workers with each job."""

    def run_tasks(
        self, folder: Path, tasks: Sequence[Task[Any]], label: str, file_task: FileTask[Any]
    ) -> list[TaskResult]:
        """See `Engine.run_tasks`."""
        if not tasks:
            return []
        self._run(
            folder,
            lambda pipeline: build_tasks(pipeline, folder, write_tasks(folder, tasks), label, file_task),
            self.options(label, file_task),
        )
        return results_of(folder, tasks)

    def run_rounds(self, folder: Path, job: RoundsJob[Any]) -> dict[str, np.ndarray]:
        """See `Engine.run_rounds`."""
        for total in job.sums:
            sum_path(folder, total).unlink(missing_ok=True)
        self._run(
            folder,
            lambda pipeline: build_rounds(pipeline, folder, job, write_tasks(folder, job.tasks)),
            self.options(job.label, job.emitter),
        )
        return {total.name: np.load(cached(sum_path(folder, total))) for total in job.sums}

    def options(self, label: str = "", work: object = None) -> PipelineOptions:
        """Return Beam's options for this runner, and for a job by its label and what its tasks run."""
        flags = [f"--runner={runner_class(self.name)}", *default_flags(self.name, self.flags)]
        if self.name == "beam":
            flags += ["--direct_running_mode=in_memory", f"--direct_num_workers={self.workers}"]
        return PipelineOptions([*flags, *job_flags(self.name, self.flags, label, work), *self.flags])

    def _run(self, folder: Path, construct: Callable[[beam.Pipeline], Any], options: PipelineOptions) -> None:
        """Build a pipeline with `construct` and wait for its end."""
        self.check()
        pipeline = self._make_pipeline(options)
        try:
            with user_errors_of(folder):
                construct(pipeline)
            with runner_faults(self.name), user_errors_of(folder), _unwrapped():
                pipeline.run().wait_until_finish()
        finally:
            for listed in (folder / TASKS).glob("*.pickle"):
                listed.unlink()

    def _make_pipeline(self, options: PipelineOptions) -> beam.Pipeline:
        with refused_runner(self.name):
            return beam.Pipeline(runner=self._beam_runner(), options=options)

    def _beam_runner(self) -> FnApiRunner | None:
        """Return the in-process runner with its own worker command if there are several workers; else None."""
        if self.name != "beam" or self.workers == 1:
            return None
        # Beam's own mode for this, multi_processing, starts workers that log to the user's screen.
        worker = f"{shlex.quote(sys.executable)} -m openwit.pipeline.execution.beam_worker"
        command = f"OPENWIT_DRIVER={os.getpid()} {worker}"
        return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Remove Beam's addition from the message of a user's error that a step raised in this process."""
    try:
        yield
    except OpenWITError as error:
        raise type(error)(str(error).partition(" [while running")[0]) from error

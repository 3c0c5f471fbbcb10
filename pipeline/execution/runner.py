"""Where a job runs: the local runner by name, or any Beam runner with its own flags."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from openwit.schemas.common.errors import OpenWITError

# `DirectRunner` tries to download Prism first, and the Dask runner loses rows in silence: neither is offered.
_RUNNERS = {
    "local": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "portable": "PortableRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
}
RUNNER_NAMES = tuple(_RUNNERS)


@dataclass(frozen=True)
class Runner:
    """A runner and its flags.

    Args:
        name: local | portable | flink | spark | dataflow.
        workers: worker processes of the local runner; 1 runs in this process (starting more costs seconds).
        flags: Beam's own flags, passed on untouched.
    """

    name: str = "local"
    workers: int = 1
    flags: Sequence[str] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.name not in _RUNNERS:
            raise OpenWITError(f"unknown runner {self.name!r}; known: {', '.join(_RUNNERS)}")
        if self.workers < 1:
            raise OpenWITError(f"--workers must be at least 1, got {self.workers}")

    def options(self) -> PipelineOptions:
        """Beam's options for this runner."""
        flags = [f"--runner={_RUNNERS[self.name]}"]
        if self.name == "local":
            flags += ["--direct_running_mode=in_memory", f"--direct_num_workers={self.workers}"]
        return PipelineOptions([*flags, *self.flags])

    def run(self, construct: Callable[[beam.Pipeline], Any]) -> None:
        """Builds a pipeline with `construct` and waits for its end.

        Raises:
            Exception: whatever a step raised, wrapped by the runner.
        """
        pipeline = beam.Pipeline(runner=self._beam_runner(), options=self.options())
        construct(pipeline)
        pipeline.run().wait_until_finish()

    def _beam_runner(self) -> FnApiRunner | None:
        """The local runner with workers of our own command where there are several; None where options name it."""
        if self.name != "local" or self.workers == 1:
            return None
        # Beam's own mode for this, multi_processing, starts workers that log to the user's screen.
        command = f"{shlex.quote(sys.executable)} -m openwit.pipeline.execution.worker"
        return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))


def default_workers() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)

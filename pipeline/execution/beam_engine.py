"""Run jobs on Apache Beam: its in-process runner, or any other Beam runner with its own flags.

Only this module and its neighbours named `beam_…` import Beam. Elements are (key, blob) pairs, so that a runner's
shuffle encodes them with its fast coders; the stream of a blob decides which collection it goes to.
"""

import os
import pickle
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from openwit.pipeline.execution.beam_flags import check_endpoint, check_flags, job_endpoint
from openwit.pipeline.execution.beam_parts import prism_flags
from openwit.pipeline.execution.files import STAGE
from openwit.pipeline.execution.jobs import (
    Addend,
    Emitted,
    Emitter,
    FileTask,
    Grouping,
    Round,
    RoundsJob,
    Task,
    TaskResult,
    VectorSum,
)
from openwit.pipeline.execution.tasks import results_of, run_file_task, user_errors_of
from openwit.schemas.common.atomic import atomic_path, atomic_write
from openwit.schemas.common.errors import OpenWITError, RecipeError
from openwit.schemas.common.stopping import stop_if_asked
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.common.storage_faults import storage_faults

# `DirectRunner` tries to download Prism first, and the Dask runner loses rows silently: neither is offered.
_RUNNERS: dict[str, str] = {
    "beam": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "portable": "PortableRunner",
    "prism": "apache_beam.runners.portability.prism_runner.PrismRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
}
_SUMS = f"{STAGE}/sums"
_TASKS = f"{STAGE}/tasks"
# Tasks per file that a graph names: graphs are limited (Dataflow: 10 MB), and have no tasks in them.
_LISTED = 1000


@dataclass(frozen=True)
class BeamEngine:
    """Run jobs on a Beam runner; see `openwit.pipeline.execution.engine.Engine`.

    Args:
        name: one of `openwit.pipeline.execution.runners.RunnerName` but `local`.
        workers: worker processes of the runner `beam`; 1 runs in this process (starting more costs seconds a job).
        flags: Beam's own flags, passed on unchanged.
    """

    name: str = "beam"
    workers: int = 1
    flags: Sequence[str] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        """Raise a RecipeError for an unknown runner or no worker."""
        if self.name not in _RUNNERS:
            raise RecipeError(f"unknown runner {self.name!r}; known: local, {', '.join(_RUNNERS)}")
        if self.workers < 1:
            raise RecipeError(f"workers must be at least 1, got {self.workers}")
        if self.name == "prism" and job_endpoint(self.flags) is None:
            object.__setattr__(self, "flags", (*prism_flags(self.flags), *self.flags))
        check_flags(self.name, self.flags)

    def check(self) -> None:
        """Raise a NetworkError if the runner's cluster does not answer: better now than after hours of other steps."""
        check_endpoint(self.name, self.flags)

    def close(self) -> None:
        """Do nothing: Beam ends its workers with each job."""

    def run_tasks(
        self, folder: Path, tasks: Sequence[Task[Any]], label: str, file_task: FileTask[Any]
    ) -> list[TaskResult]:
        """See `Engine.run_tasks`."""
        if not tasks:
            return []

        def construct(pipeline: beam.Pipeline) -> None:
            _ = _spread(pipeline, folder, tasks) | label >> beam.ParDo(RunFileTask(str(folder), file_task))

        self._run(folder, construct)
        return results_of(folder, tasks)

    def run_rounds(self, folder: Path, job: RoundsJob[Any]) -> dict[str, np.ndarray]:
        """See `Engine.run_rounds`."""
        for total in job.sums:
            _sum_path(folder, total).unlink(missing_ok=True)
        self._run(folder, lambda pipeline: build_rounds(pipeline, folder, job))
        return {total.name: np.load(cached(_sum_path(folder, total))) for total in job.sums}

    def options(self) -> PipelineOptions:
        """Return Beam's options for this runner."""
        flags = [f"--runner={_RUNNERS[self.name]}"]
        if self.name == "beam":
            flags += ["--direct_running_mode=in_memory", f"--direct_num_workers={self.workers}"]
        return PipelineOptions([*flags, *self.flags])

    def _run(self, folder: Path, construct: Callable[[beam.Pipeline], Any]) -> None:
        """Build a pipeline with `construct` and wait for its end."""
        self.check()
        with user_errors_of(folder), _unwrapped():
            pipeline = beam.Pipeline(runner=self._beam_runner(), options=self.options())
            try:
                construct(pipeline)
                pipeline.run().wait_until_finish()
            finally:
                for listed in (folder / _TASKS).glob("*.pickle"):
                    listed.unlink()

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


def build_rounds(pipeline: beam.Pipeline, folder: Path, job: RoundsJob[Any]) -> None:
    """Add the steps of a job to a pipeline; sums are written below the folder."""
    tasks = _spread(pipeline, folder, job.tasks)
    if job.file_task is not None:
        tasks = tasks | job.label >> beam.ParDo(RunFileTask(str(folder), job.file_task))
    emitted = tasks | "Emit" >> beam.ParDo(_Emit(job.emitter))
    sources = [("Emit", emitted)]
    streams: dict[str, list[beam.PCollection]] = {}
    _add_streams(streams, "Emit", emitted, job.writes)
    for part in job.rounds:
        emitted = _group(streams, part) | part.label >> beam.ParDo(_Process(part.grouping, part.reads))
        sources.append((part.label, emitted))
        _add_streams(streams, part.label, emitted, part.writes)
    for total in job.sums:
        addends = [
            source | f"Addends of {total.name} from {label}" >> beam.ParDo(_Select(total.name))
            for label, source in sources
        ]
        _ = (
            addends
            | f"All addends of {total.name}" >> beam.Flatten()
            | f"Sum {total.name}" >> beam.CombineGlobally(_SumVectors(total.length))
            | f"Write {total.name}" >> beam.ParDo(_WriteSum(str(_sum_path(folder, total))))
        )


def _spread(pipeline: beam.Pipeline, folder: Path, tasks: Sequence[Task[Any]]) -> beam.PCollection:
    """Return the tasks as a collection that is spread over workers; they travel in files below the folder."""
    listed = []
    for first in range(0, len(tasks), _LISTED):
        path = folder / _TASKS / f"{first // _LISTED:05d}.pickle"
        atomic_write(path, pickle.dumps(list(tasks[first : first + _LISTED]), pickle.HIGHEST_PROTOCOL))
        listed.append(str(path))
    names = pipeline | "List tasks" >> beam.Create(listed, reshuffle=False)
    return names | "Read tasks" >> beam.ParDo(_ReadTasks()) | "Spread tasks" >> beam.Reshuffle()


class _ReadTasks(beam.DoFn):
    """Path of a file of `_spread` -> its tasks."""

    def process(self, path: str) -> Iterator[Any]:
        with storage_faults(only_os_errors=True):
            data = Path(path).read_bytes()
        yield from pickle.loads(data)


def _add_streams(
    streams: dict[str, list[beam.PCollection]], label: str, emitted: beam.PCollection, names: Sequence[str]
) -> None:
    for name in names:
        selected = emitted | f"{name} from {label}" >> beam.ParDo(_Select(name)).with_output_types(tuple[int, bytes])
        streams.setdefault(name, []).append(selected)


def _group(streams: dict[str, list[beam.PCollection]], part: Round) -> beam.PCollection:
    """Group the blobs of the round's streams by key: one stream by GroupByKey, several by CoGroupByKey."""
    collections = {}
    for name in part.reads:
        written = streams[name]
        collections[name] = (
            written[0] if len(written) == 1 else written | f"All {name} for {part.label}" >> beam.Flatten()
        )
    if len(collections) == 1:
        return collections[part.reads[0]] | f"Group for {part.label}" >> beam.GroupByKey()
    return collections | f"Join for {part.label}" >> beam.CoGroupByKey()


def _sum_path(folder: Path, total: VectorSum) -> Path:
    return folder / _SUMS / f"{total.name}.npy"


@dataclass
class RunFileTask(beam.DoFn):
    """task -> the same task, once its files and its result are written."""

    folder: str
    file_task: FileTask[Any]

    def setup(self) -> None:
        """Prepare the worker."""
        with storage_faults(as_path(self.folder), only_os_errors=True):
            self.file_task.setup()

    # Beam checks annotations at run time and does not support generic classes.
    def process(self, task: Any) -> Iterator[Any]:
        run_file_task(as_path(self.folder), task, self.file_task)
        yield task


@dataclass
class _Emit(beam.DoFn):
    """task -> (stream or sum, key, blob or vector)."""

    emitter: Emitter[Any]

    def setup(self) -> None:
        with storage_faults(only_os_errors=True):
            self.emitter.setup()

    def process(self, task: Any) -> Iterator[tuple[str, int, Any]]:
        return _plain(partial(self.emitter.emit, task))


@dataclass
class _Process(beam.DoFn):
    """(key, blobs, by stream if there are several) -> (stream or sum, key, blob or vector)."""

    grouping: Grouping
    reads: tuple[str, ...]

    def setup(self) -> None:
        with storage_faults(only_os_errors=True):
            self.grouping.setup()

    def process(self, element: tuple[int, Any]) -> Iterator[tuple[str, int, Any]]:
        key, values = element
        by_stream = {self.reads[0]: values} if len(self.reads) == 1 else values
        return _plain(partial(self.grouping.process, key, {name: list(by_stream[name]) for name in self.reads}))


def _plain(emit: Callable[[], Emitted]) -> Iterator[tuple[str, int, Any]]:
    stop_if_asked()
    with storage_faults(only_os_errors=True):
        for item in emit():
            if isinstance(item, Addend):
                yield item.sum, 0, item.vector
            else:
                yield item.stream, item.key, item.blob


@dataclass
class _Select(beam.DoFn):
    """(stream or sum, key, blob or vector) -> (key, blob) of one stream, or the vectors of one sum."""

    name: str

    def process(self, element: tuple[str, int, Any]) -> Iterator[Any]:
        name, key, value = element
        if name == self.name:
            yield (key, value) if isinstance(value, bytes) else value


class _SumVectors(beam.CombineFn):
    """Sum int64 vectors: one crosses the shuffle per bundle, not one per addend."""

    def __init__(self, length: int) -> None:
        self.length = length

    def create_accumulator(self) -> Any:
        return None

    def add_input(self, accumulator: Any, element: np.ndarray) -> Any:
        return element.astype(np.int64) if accumulator is None else accumulator + element

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        total = None
        for accumulator in accumulators:
            if accumulator is not None:
                total = accumulator if total is None else total + accumulator
        return total

    def extract_output(self, accumulator: Any) -> Any:
        return np.zeros(self.length, np.int64) if accumulator is None else accumulator


@dataclass
class _WriteSum(beam.DoFn):
    """Write the sum to a file that the driver reads."""

    path: str

    def process(self, vector: np.ndarray) -> Iterator[None]:
        with storage_faults(only_os_errors=True), atomic_path(as_path(self.path)) as path, path.open("wb") as file:
            np.save(file, vector)
        yield None

"""Build the graphs of jobs for Beam: elements are (key, blob) pairs, so that a runner's shuffle encodes them with its
fast coders; the stream of a blob decides which collection it goes to. Tasks travel in files that a graph names.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from openwit.pipeline.execution import beam_quiet  # noqa: F401

# isort: split
import apache_beam as beam
import numpy as np

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
    VectorSum,
)
from openwit.pipeline.execution.probe import unseen
from openwit.pipeline.execution.tasks import run_file_task
from openwit.schemas.common.atomic import atomic_path, atomic_write
from openwit.schemas.common.stopping import stop_if_asked
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.common.storage_faults import storage_faults

TASKS = f"{STAGE}/tasks"
_SUMS = f"{STAGE}/sums"
# Tasks per file that a graph names: graphs are limited (Dataflow: 10 MB), and have no tasks in them.
_LISTED = 1000


def listed_tasks(folder: Path, tasks: int) -> list[str]:
    """Return the files in which a number of tasks travel."""
    return [str(folder / TASKS / f"{n:05d}.pickle") for n in range(-(-tasks // _LISTED))]


def write_tasks(folder: Path, tasks: Sequence[Task[Any]]) -> list[str]:
    """Write the tasks of a job to files below the folder; return their paths."""
    listed = listed_tasks(folder, len(tasks))
    for n, path in enumerate(listed):
        part = list(tasks[n * _LISTED : (n + 1) * _LISTED])
        atomic_write(as_path(path), pickle.dumps(part, pickle.HIGHEST_PROTOCOL))
    return listed


def build_tasks(
    pipeline: beam.Pipeline, folder: Path, listed: Sequence[str], label: str, file_task: FileTask[Any]
) -> None:
    """Add the step of a job of file tasks to a pipeline.

    Args:
        listed: files of the tasks.
    """
    _ = _spread(pipeline, listed) | label >> beam.ParDo(RunFileTask(str(folder), file_task))


def build_rounds(pipeline: beam.Pipeline, folder: Path, job: RoundsJob[Any], listed: Sequence[str]) -> None:
    """Add the steps of a job to a pipeline; sums are written below the folder.

    Args:
        listed: files of the tasks.
    """
    tasks = _spread(pipeline, listed)
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
            | f"Write {total.name}" >> beam.ParDo(_WriteSum(str(sum_path(folder, total))))
        )


def _spread(pipeline: beam.Pipeline, listed: Sequence[str]) -> beam.PCollection:
    """Return the tasks of some files as a collection that is spread over workers."""
    names = pipeline | "List tasks" >> beam.Create(listed, reshuffle=False)
    return names | "Read tasks" >> beam.ParDo(_ReadTasks()) | "Spread tasks" >> beam.Reshuffle()


class _ReadTasks(beam.DoFn):
    """Path of a file of tasks -> its tasks."""

    def process(self, path: str) -> Iterator[Any]:
        file = as_path(path)
        with storage_faults(only_os_errors=True):
            try:
                data = file.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                raise unseen(file.parents[2]) from None
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


def sum_path(folder: Path, total: VectorSum) -> Path:
    """Return the file of a sum."""
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

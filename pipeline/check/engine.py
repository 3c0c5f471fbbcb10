"""Run jobs on a sample in this process, and build the graph of each as a runner of Beam would get it."""

import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from openwit.pipeline.execution.beam_facts import GraphFacts, measure_graph
from openwit.pipeline.execution.beam_graph import build_rounds, build_tasks, listed_tasks
from openwit.pipeline.execution.jobs import (
    Emitted,
    Emitter,
    FileTask,
    Grouping,
    KeyedBlob,
    RoundsJob,
    Streams,
    Task,
    TaskResult,
)
from openwit.pipeline.execution.pool import InProcessPool
from openwit.pipeline.execution.pool_engine import PoolEngine

PLANNED_TASKS = 100_000
"""Tasks of a job for which graphs are measured: the largest build of docs/scale.md has 67,200."""
TASK_BYTES = 64 << 10


@dataclass
class JobGraph:
    """The graph of a job.

    Attributes:
        step: of the recipe.
        job: label.
        tasks: of the sample.
        facts: of the graph, which names as many files of tasks as `PLANNED_TASKS` have.
        faults: that the sample showed.
    """

    step: str
    job: str
    tasks: int
    facts: GraphFacts
    faults: list[str] = field(default_factory=list)


class GraphEngine:
    """Build the graph of each job, and run the job on the sample; see `openwit.pipeline.execution.engine.Engine`.

    Args:
        options: of Beam for a job, by its label and what its tasks run.
        payload: bytes that no shuffle may hold.
        place: folder of a job in the real build, and its step, by its folder in the rehearsal.
    """

    def __init__(
        self,
        options: Callable[[str, object], Any],
        payload: Sequence[bytes],
        place: Callable[[Path], tuple[Path, str]],
    ) -> None:
        self._options = options
        self._payload = payload
        self._place = place
        self._engine = PoolEngine(InProcessPool())
        self.graphs: list[JobGraph] = []

    def check(self) -> None:
        """Do nothing: nothing runs elsewhere."""

    def prepare(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def run_tasks(
        self, folder: Path, tasks: Sequence[Task[Any]], label: str, file_task: FileTask[Any]
    ) -> list[TaskResult]:
        """See `Engine.run_tasks`."""
        if tasks:
            real, step = self._place(folder)
            listed = listed_tasks(real, PLANNED_TASKS)
            facts = measure_graph(
                self._options(label, file_task), lambda graph: build_tasks(graph, real, listed, label, file_task)
            )
            self.graphs.append(JobGraph(step, label, len(tasks), facts, self._faults_of(tasks)))
        return self._engine.run_tasks(folder, tasks, label, file_task)

    def run_rounds(self, folder: Path, job: RoundsJob[Any]) -> dict[str, np.ndarray]:
        """See `Engine.run_rounds`."""
        real, step = self._place(folder)
        listed = listed_tasks(real, PLANNED_TASKS)
        facts = measure_graph(
            self._options(job.label, job.emitter), lambda graph: build_rounds(graph, real, job, listed)
        )
        made = JobGraph(step, job.label, len(job.tasks), facts, self._faults_of(job.tasks))
        self.graphs.append(made)
        rounds = [replace(part, grouping=_WatchedGrouping(part.grouping, self._watch(made))) for part in job.rounds]
        watched = replace(job, emitter=_WatchedEmitter(job.emitter, self._watch(made)), rounds=rounds)
        return self._engine.run_rounds(folder, watched)

    def _faults_of(self, tasks: Sequence[Task[Any]]) -> list[str]:
        """Return what is wrong with tasks as elements of a shuffle, which spreads them over workers."""
        data = [pickle.dumps(task, pickle.HIGHEST_PROTOCOL) for task in tasks]
        largest = max((len(each) for each in data), default=0)
        faults = [] if largest <= TASK_BYTES else [f"a task has {largest:,} bytes, more than {TASK_BYTES:,}"]
        if self._holds_payload(data):
            faults.append("tasks hold texts or images")
        return faults

    def _holds_payload(self, data: Iterable[bytes]) -> bool:
        return any(piece in each for each in data for piece in self._payload)

    def _watch(self, made: JobGraph) -> Callable[[KeyedBlob], None]:
        def watch(item: KeyedBlob) -> None:
            fault = f"stream {item.stream} shuffles texts or images"
            if fault not in made.faults and self._holds_payload([item.blob]):
                made.faults.append(fault)

        return watch


Watch = Callable[[KeyedBlob], None]


def _watched(items: Emitted, watch: Watch) -> Emitted:
    for item in items:
        if isinstance(item, KeyedBlob):
            watch(item)
        yield item


@dataclass
class _WatchedEmitter(Emitter[Any]):
    """An emitter whose blobs are looked at."""

    emitter: Emitter[Any]
    watch: Watch

    def setup(self) -> None:
        self.emitter.setup()

    def emit(self, task: Task[Any]) -> Emitted:
        return _watched(self.emitter.emit(task), self.watch)


@dataclass
class _WatchedGrouping(Grouping):
    """A grouping whose blobs are looked at."""

    grouping: Grouping
    watch: Watch

    def setup(self) -> None:
        self.grouping.setup()

    def process(self, key: int, streams: Streams) -> Emitted:
        return _watched(self.grouping.process(key, streams), self.watch)

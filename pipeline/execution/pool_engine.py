"""Run jobs on a pool of workers: file tasks as items, rounds as items that exchange blobs through files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from openwit.pipeline.execution.exchange import BlobFile, BlobReader, BlobWriter, Written, grouped
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
)
from openwit.pipeline.execution.pool import InProcessPool, Pool
from openwit.pipeline.execution.probe import Probe, check_probe, write_probe
from openwit.pipeline.execution.tasks import run_file_task, user_errors_of
from openwit.schemas.common.stopping import stop_if_asked
from openwit.schemas.common.storage.reading import remove_tree
from openwit.schemas.common.storage.store_path import is_store
from openwit.schemas.common.storage_faults import storage_faults

_EXCHANGE = f"{STAGE}/exchange"

Sums = dict[str, np.ndarray]
_NO_KEYS = np.zeros(0, np.int64)


class PoolEngine:
    """Run jobs on a pool; see `openwit.pipeline.execution.engine.Engine`.

    Args:
        pool: of workers.
        elsewhere: whether they may run on other machines, which may not see the folders of this one.
    """

    def __init__(self, pool: Pool, *, elsewhere: bool = False) -> None:
        self._pool = pool
        self._elsewhere = elsewhere

    def check(self) -> None:
        """See `Engine.check`."""
        self._pool.check()

    def prepare(self) -> None:
        """See `Engine.prepare`."""
        self._pool.prepare()

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def run_tasks(
        self, folder: Path, tasks: Sequence[Task[Any]], label: str, file_task: FileTask[Any]
    ) -> list[TaskResult]:
        """See `Engine.run_tasks`."""
        results: list[TaskResult | None] = [None] * len(tasks)
        with user_errors_of(folder):
            names = [f"{label}: {task.name}" for task in tasks]
            probe = write_probe(folder) if self._elsewhere else None
            for index, result in self._pool_of(folder).run(_RunTasks(folder, probe, file_task), tasks, names):
                results[index] = result
        return [result for result in results if result is not None]

    def run_rounds(self, folder: Path, job: RoundsJob[Any]) -> Sums:
        """See `Engine.run_rounds`."""
        exchange = folder / _EXCHANGE
        remove_tree(exchange)
        sums = {total.name: np.zeros(total.length, np.int64) for total in job.sums}
        try:
            with user_errors_of(folder):
                probe = write_probe(folder) if self._elsewhere else None
                run = _Rounds(self._pool_of(folder), folder, probe, exchange, sums)
                run.emit(job)
                for number, part in enumerate(job.rounds):
                    run.round(part, number)
        finally:
            remove_tree(exchange)
        return sums

    def _pool_of(self, folder: Path) -> Pool:
        """Return the pool, or this process for a folder that only this process has."""
        in_memory = is_store(folder) and str(folder).startswith("memory://")
        return InProcessPool() if in_memory and not self._elsewhere else self._pool


class _Step(NamedTuple):
    """A file of blobs that a step wrote, and the streams of which it has blobs."""

    file: BlobFile
    found: frozenset[str]


@dataclass
class _Rounds:
    """The state of a job of rounds: the files of each step so far with their streams, the keys by stream, the sums."""

    pool: Pool
    folder: Path
    probe: Probe | None
    exchange: Path
    sums: Sums
    files: list[_Step] = field(default_factory=list)
    keys: dict[str, np.ndarray] = field(default_factory=dict)

    def emit(self, job: RoundsJob[Any]) -> None:
        groups = [[job.tasks[index] for index in part] for part in grouped(len(job.tasks))]
        names = [f"{job.label}: {group[0].name}" for group in groups]
        work = _Emit(self.folder, self.probe, job.file_task, job.emitter, job.writes, self.exchange / "emit")
        self._run(work, list(enumerate(groups)), names, job.writes)

    def round(self, part: Round, number: int) -> None:
        keys = reduce(np.union1d, [self.keys.get(stream, _NO_KEYS) for stream in part.reads], _NO_KEYS).tolist()
        # A file that has nothing for the round is not opened.
        files = [step.file for step in self.files if step.found.intersection(part.reads)]
        groups = [[keys[index] for index in group] for group in grouped(len(keys))]
        names = [f"{part.label}: bucket {group[0]}" for group in groups]
        work = _Process(part.grouping, part.reads, part.writes, files, self.exchange / f"round-{number}")
        self._run(work, list(enumerate(groups)), names, part.writes)

    def _run(self, work: Any, items: list[Any], names: list[str], writes: tuple[str, ...]) -> None:
        made: dict[int, _Step] = {}
        for index, (written, sums) in self.pool.run(work, items, names):
            if written.path:
                file = BlobFile(written.path, written.size, writes)
                made[index] = _Step(file, frozenset(written.keys))
            for stream, keys in written.keys.items():
                self.keys[stream] = np.union1d(self.keys.get(stream, _NO_KEYS), keys)
            for name, vector in sums.items():
                self.sums[name] += vector
        self.files += [made[index] for index in sorted(made)]


@dataclass
class _RunTasks:
    """task -> its result."""

    folder: Path
    probe: Probe | None
    file_task: FileTask[Any]

    def setup(self) -> None:
        check_probe(self.probe)
        with storage_faults(self.folder, only_os_errors=True):
            self.file_task.setup()

    def run(self, task: Task[Any]) -> TaskResult:
        return run_file_task(self.folder, task, self.file_task)


@dataclass
class _Emit:
    """(number, tasks) -> the file of their blobs, and their sums."""

    folder: Path
    probe: Probe | None
    file_task: FileTask[Any] | None
    emitter: Emitter[Any]
    writes: tuple[str, ...]
    exchange: Path

    def setup(self) -> None:
        check_probe(self.probe)
        with storage_faults(self.folder, only_os_errors=True):
            if self.file_task is not None:
                self.file_task.setup()
            self.emitter.setup()

    def run(self, item: tuple[int, list[Task[Any]]]) -> tuple[Written, Sums]:
        number, tasks = item
        return _collected(self._emitted(tasks), self.exchange / f"{number:05d}", self.writes)

    def _emitted(self, tasks: list[Task[Any]]) -> Emitted:
        for task in tasks:
            if self.file_task is not None:
                run_file_task(self.folder, task, self.file_task)
            yield from self.emitter.emit(task)


@dataclass
class _Process:
    """(number, keys) -> the file of the blobs that the round emits for them, and their sums."""

    grouping: Grouping
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    files: list[BlobFile]
    exchange: Path

    def setup(self) -> None:
        self._reader = BlobReader(self.files)
        with storage_faults(only_os_errors=True):
            self.grouping.setup()

    def run(self, item: tuple[int, list[int]]) -> tuple[Written, Sums]:
        number, keys = item
        return _collected(self._emitted(keys), self.exchange / f"{number:05d}", self.writes)

    def _emitted(self, keys: list[int]) -> Emitted:
        for key, streams in self._reader.read(self.reads, keys):
            yield from self.grouping.process(key, streams)


def _collected(emitted: Emitted, target: Path, writes: tuple[str, ...]) -> tuple[Written, Sums]:
    sums: Sums = {}
    with storage_faults(target.parent, only_os_errors=True), BlobWriter(target, writes) as writer:
        for item in _stoppable(emitted):
            if isinstance(item, Addend):
                known = sums.get(item.sum)
                sums[item.sum] = item.vector.astype(np.int64) if known is None else known + item.vector
            else:
                writer.add(item.stream, item.key, item.blob)
    return writer.written(), sums


def _stoppable(emitted: Emitted) -> Iterator[Any]:
    for item in emitted:
        stop_if_asked()
        yield item

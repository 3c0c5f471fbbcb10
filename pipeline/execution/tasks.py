"""File tasks that survive a kill: a task writes its files whole, and its result once all of them are there.

A task whose result exists is not run again. Output is named by the task, so an interrupted and an uninterrupted run
write the same bytes.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam

from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.runner import Runner
from openwit.schemas.common.atomic import TEMPORARY_PREFIX, atomic_write
from openwit.schemas.common.errors import OpenWITError

STAGE = ".stage"
"""Subfolder for what the machinery keeps beside a stage's own files."""
RESULTS = f"{STAGE}/results"
PROGRESS = f"{STAGE}/progress"
FAILURES = f"{STAGE}/failures"
_TICK_SECONDS = 0.5
_NOTES_A_REASON = 100


@dataclass(frozen=True)
class Task:
    """One unit of work: a name for its outputs, its place among the tasks, and what it works on."""

    number: int
    name: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class TaskResult:
    """What a finished task left: files with their sums, and counts that add up."""

    task: str
    files: list[dict[str, Any]]
    steps: dict[str, dict[str, Any]]
    counters: dict[str, int]
    extra: dict[str, Any]
    noted: list[list[str]] = field(default_factory=list)


class TaskStats:
    """Counts of one task. A `step`, named stage/unit, is a line of the funnel: rows in, rows out, and reasons."""

    def __init__(self, progress_file: Path | None = None) -> None:
        self._progress_file = progress_file
        self._last_tick = 0.0
        self.reset()

    def reset(self) -> None:
        """Forgets every count: the task begins again."""
        self.rows_in: Counter[str] = Counter()
        self.rows_out: Counter[str] = Counter()
        self.reasons: dict[str, Counter[str]] = {}
        self.counters: Counter[str] = Counter()
        self.extra: dict[str, Any] = {}
        self.noted: dict[str, list[str]] = {}

    def enter(self, step: str, n: int = 1) -> None:
        """`n` rows entered a step."""
        self.rows_in[step] += n
        self.reasons.setdefault(step, Counter())

    def leave(self, step: str, n: int = 1) -> None:
        """`n` rows came out of a step."""
        self.rows_out[step] += n

    def drop(self, step: str, reason: str, n: int = 1) -> None:
        """`n` rows left at a step for a reason."""
        if n:
            self.reasons.setdefault(step, Counter())[reason] += n

    def note(self, reason: str, detail: str) -> None:
        """Remembers what was seen where, for the first so many of a reason."""
        details = self.noted.setdefault(reason, [])
        if detail and len(details) < _NOTES_A_REASON:
            details.append(detail)

    def tick(self, rows: int, fraction: float | None = None) -> None:
        """Tells the progress display how many rows of this task are done, and which share of it where known."""
        now = time.monotonic()
        if self._progress_file is None or now - self._last_tick < _TICK_SECONDS:
            return
        self._last_tick = now
        self._progress_file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self._progress_file, json.dumps({"rows": rows, "fraction": fraction}))

    def steps(self) -> dict[str, dict[str, Any]]:
        """The funnel lines as plain data."""
        return {
            step: {
                "rows_in": self.rows_in[step],
                "rows_out": self.rows_out[step],
                "reasons": dict(sorted(self.reasons.get(step, Counter()).items())),
            }
            for step in self.rows_in
        }


def counting(stats: TaskStats, step: str, entered: str, reasons: Sequence[str], left: str = "") -> Callable[..., None]:
    """A reader's counts as a funnel line.

    Args:
        stats: takes the counts; what comes with a detail is noted too.
        step: stage/unit of the line.
        entered, left: the reader's notes for rows that came in, and that went on; other notes become counters.
        reasons: the reader's reasons.
    """

    def count(reason: str, n: int = 1, detail: str = "") -> None:
        if detail:
            stats.note(reason, detail)
        if reason == entered:
            stats.enter(step, n)
        elif reason == left:
            stats.leave(step, n)
        elif reason in reasons:
            stats.drop(step, reason, n)
        else:
            stats.counters[f"{step.partition('/')[0]}.{reason}"] += n

    return count


class FileTask:
    """What a stage does to one input. Travels to the workers pickled, so it holds settings and paths only."""

    def setup(self) -> None:
        """Called once a worker, before the first task: the place for what is costly to build."""

    def run(self, task: Task, folder: Path, stats: TaskStats) -> list[Path]:
        """Does a task: writes files below the folder, whole or not at all, counts in the stats, returns the files."""
        raise NotImplementedError


@dataclass
class RunFileTask(beam.DoFn):
    """Runs `work` for a task unless its result says it is done; yields (task, its result)."""

    folder: str
    work: FileTask

    def setup(self) -> None:
        """Called once a worker, before the first task."""
        self.work.setup()

    def process(self, task: Task) -> Iterator[tuple[Task, TaskResult]]:
        folder = Path(self.folder)
        task_result = read_result(folder, task.name)
        if task_result is None:
            try:
                task_result = self._do(task, folder)
            except OpenWITError as error:
                # The runner wraps what a step raises; the sentence for the user goes around it.
                atomic_write(folder / FAILURES / f"{task.name}.json", json.dumps({"message": str(error)}))
                raise
        yield task, task_result

    def _do(self, task: Task, folder: Path) -> TaskResult:
        stats = TaskStats(folder / PROGRESS / f"{task.name}.json")
        paths = self.work.run(task, folder, stats)
        files = [file_entry(folder, path).model_dump() for path in paths]
        noted = [[reason, detail] for reason, details in sorted(stats.noted.items()) for detail in details]
        task_result = TaskResult(
            task.name, files, stats.steps(), dict(sorted(stats.counters.items())), stats.extra, noted
        )
        atomic_write(folder / RESULTS / f"{task.name}.json", json.dumps(asdict(task_result), sort_keys=True))
        return task_result


def read_result(folder: Path, name: str) -> TaskResult | None:
    """The result of a finished task, or None when the task must be (re)done."""
    path = folder / RESULTS / f"{name}.json"
    try:
        task_result = TaskResult(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    whole = all(_has_size(folder / entry["path"], entry["bytes"]) for entry in task_result.files)
    return task_result if whole else None


def finished_results(folder: Path) -> Iterator[TaskResult]:
    """The results of all finished tasks of a folder, in order of name."""
    for path in sorted((folder / RESULTS).glob("*.json")):
        task_result = read_result(folder, path.stem)
        if task_result is not None:
            yield task_result


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def with_nothing(task: Task) -> tuple[int, bytes]:
    """A task's number with an empty blob: names every file in a join, also those that nothing was sent to."""
    return task.number, b""


def run_tasks(runner: Runner, folder: Path, tasks: list[Task], label: str, work: FileTask) -> list[TaskResult]:
    """Runs the tasks as one Beam job and returns their results in task order.

    Raises:
        OpenWITError: a task met bad input; the message is its sentence.
    """
    if not tasks:
        return []

    def construct(pipeline: beam.Pipeline) -> None:
        _ = (
            pipeline
            | "List tasks" >> beam.Create(tasks, reshuffle=False)
            | "Spread tasks" >> beam.Reshuffle()
            | label >> beam.ParDo(RunFileTask(str(folder), work))
        )

    run_job(runner, folder, construct)
    return results_of(folder, tasks)


def results_of(folder: Path, tasks: list[Task]) -> list[TaskResult]:
    """The results of finished tasks, in task order."""
    results = []
    for task in tasks:
        task_result = read_result(folder, task.name)
        assert task_result is not None, f"task {task.name} ended without a result"
        results.append(task_result)
    return results


def run_job(runner: Runner, folder: Path, construct: Callable[[beam.Pipeline], Any]) -> None:
    """Runs a pipeline whose tasks write below `folder`; a user's error comes out as the user's error."""
    failures = folder / FAILURES
    for old in failures.glob("*.json"):
        old.unlink()
    try:
        runner.run(construct)
    except Exception as error:
        for failure in sorted(failures.glob("*.json")):
            raise OpenWITError(json.loads(failure.read_text())["message"]) from error
        if isinstance(error, OpenWITError):
            raise OpenWITError(str(error).partition(" [while running")[0]) from error
        if _is_full_disk(error):
            raise OpenWITError(
                f"no space is left on the disk of {folder}: free some and run the same command"
            ) from error
        raise


def _is_full_disk(error: BaseException) -> bool:
    return "No space left on device" in str(error) or "[Errno 28]" in str(error)


def clean_partials(folder: Path) -> None:
    """Removes what killed tasks left half-written anywhere below a stage's folder."""
    for root, _, names in os.walk(folder):
        for name in names:
            if name.startswith(TEMPORARY_PREFIX):
                Path(root, name).unlink(missing_ok=True)

"""Define jobs, which stages are written against: file tasks, and rounds of keyed blobs, independent of the engine.

*Tasks*: a task reads some input, writes its own files, and counts rows in, written and dropped (`FileTask`).

*Rounds* (`RoundsJob`): an emitter turns each task into keyed blobs on named streams; each round groups the blobs of
one or more streams by key, and emits blobs on further streams. Vectors that emitters and rounds add to a `VectorSum`
are returned to the caller. The order of the blobs in a group is undefined, so results must not depend on it.

How work is split (tasks, buckets) depends on input and settings, never on the number of workers: the files are the
same with every engine.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pydantic

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.stopping import stop_if_asked
from openwit.schemas.common.storage.store_path import is_store
from openwit.schemas.manifest import FileEntry

_TICK_SECONDS, _STORE_TICK_SECONDS = 0.5, 10.0
_MAX_NOTES_PER_REASON = 100

P = TypeVar("P")
ExtraT = TypeVar("ExtraT")


@dataclass(frozen=True)
class Task(Generic[P]):
    """A unit of work: its index among the tasks, a name for its outputs, and what it works on.

    Args:
        payload: a small frozen dataclass of the stage; it travels to the workers pickled.
    """

    number: int
    name: str
    payload: P


@dataclass(frozen=True)
class StepCounts:
    """A line of the funnel: rows in, rows out, and dropped rows by reason."""

    rows_in: int
    rows_out: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class TaskResult:
    """The files and counts of a finished task; kept as JSON in the stage's folder.

    Attributes:
        task: name of the task.
        files: with sizes and checksums.
        steps: funnel lines by `stage/unit`.
        counters: further counts, by name.
        extra: plain data of the stage's own dataclass; see `extra_as`.
        noted: (reason, detail) of the first rows of each reason.
        versions: of files in a store, as it named them when they were written; see `files.is_same`.
    """

    task: str
    files: list[FileEntry]
    steps: dict[str, StepCounts]
    counters: dict[str, int]
    extra: dict[str, Any] = field(default_factory=dict)
    noted: list[tuple[str, str]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def extra_as(self, kind: type[ExtraT]) -> ExtraT:
        """Return the task's extra as the dataclass that its `TaskStats.extra` was.

        Raises:
            pydantic.ValidationError: it was another one.
        """
        return pydantic.TypeAdapter(kind).validate_python(self.extra)


class TaskStats:
    """Count the rows of one task. A `step`, named stage/unit, is a line of the funnel: rows in, rows out, and reasons.

    Attributes:
        extra: what the driver needs of the task beyond files and counts: a dataclass of the stage.
    """

    def __init__(self, progress_file: Path | None = None) -> None:
        self._progress_file = progress_file
        self._last_tick = 0.0
        self._every = _TICK_SECONDS if progress_file is None or not is_store(progress_file) else _STORE_TICK_SECONDS
        self.reset()

    def reset(self) -> None:
        """Clear every count: the task starts over."""
        self.rows_in: Counter[str] = Counter()
        self.rows_out: Counter[str] = Counter()
        self.reasons: dict[str, Counter[str]] = {}
        self.counters: Counter[str] = Counter()
        self.extra: Any = None
        self.noted: dict[str, list[str]] = {}

    def enter(self, step: str, n: int = 1) -> None:
        """Count `n` rows that entered a step."""
        self.rows_in[step] += n
        self.reasons.setdefault(step, Counter())

    def leave(self, step: str, n: int = 1) -> None:
        """Count `n` rows that a step passed on."""
        self.rows_out[step] += n

    def drop(self, step: str, reason: str, n: int = 1) -> None:
        """Count `n` rows that a step dropped for a reason."""
        if n:
            self.reasons.setdefault(step, Counter())[reason] += n

    def note(self, reason: str, detail: str) -> None:
        """Record a detail, for the first rows of each reason."""
        details = self.noted.setdefault(reason, [])
        if detail and len(details) < _MAX_NOTES_PER_REASON:
            # Names of files may hold bytes that are not UTF-8, which no table can.
            details.append(detail.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))

    def tick(self, rows: int, fraction: float | None = None, *, reasons: Mapping[str, int] | None = None) -> None:
        """Report progress.

        Args:
            rows: of this task that are done.
            fraction: of it that is done, in [0, 1], where known.
            reasons: of the rows that were dropped so far, where a user would want to know before the end.
        """
        stop_if_asked()
        now = time.monotonic()
        if self._progress_file is None or now - self._last_tick < self._every:
            return
        self._last_tick = now
        self._progress_file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(
            self._progress_file, json.dumps({"rows": rows, "fraction": fraction, "reasons": dict(reasons or {})})
        )

    def add(self, part: TaskResult) -> None:
        """Add the counts of a finished part of the task."""
        for step, counts in part.steps.items():
            self.enter(step, counts.rows_in)
            self.leave(step, counts.rows_out)
            for reason, n in counts.reasons.items():
                self.drop(step, reason, n)
        self.counters.update(part.counters)

    def steps(self) -> dict[str, StepCounts]:
        """Return the funnel lines."""
        return {
            step: StepCounts(
                self.rows_in[step],
                self.rows_out[step],
                dict(sorted(self.reasons.get(step, Counter()).items())),
            )
            for step in self.rows_in
        }

    def result(self, task: str, files: list[FileEntry]) -> TaskResult:
        """Return the result of a task that wrote these files."""
        extra = (
            {} if self.extra is None else pydantic.TypeAdapter(type(self.extra)).dump_python(self.extra, mode="json")
        )
        noted = [(reason, detail) for reason, details in sorted(self.noted.items()) for detail in details]
        return TaskResult(task, files, self.steps(), dict(sorted(self.counters.items())), extra, noted)


def counting(stats: TaskStats, step: str, entered: str, reasons: Sequence[str], left: str = "") -> Callable[..., None]:
    """Count a reader's numbers as a funnel line.

    Args:
        stats: takes the counts; what comes with a detail is noted too.
        step: stage/unit of the line.
        entered, left: the reader's names for rows in, and for rows passed on; other names become counters.
        reasons: the reader's drop reasons.
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


class FileTask(Generic[P]):
    """Run one task of a stage. Travels to the workers pickled, so it holds settings and paths only."""

    def setup(self) -> None:
        """Prepare a worker before its first task: the place for what is expensive to build."""

    def run(self, task: Task[P], folder: Path, stats: TaskStats) -> Sequence[Path | FileEntry]:
        """Run a task: write files below the folder, whole or not at all, count in `stats`, return the files.

        A task that knows the checksum of a file returns its entry instead of the path.
        """
        raise NotImplementedError


class KeyedBlob(NamedTuple):
    """A blob for a stream: blobs of equal key meet in the rounds that read the stream."""

    stream: str
    key: int
    blob: bytes


class Addend(NamedTuple):
    """A vector to add to a sum of the job."""

    sum: str
    vector: np.ndarray


Emitted = Iterator[KeyedBlob | Addend]
Streams = Mapping[str, list[bytes]]
"""The blobs of one key by stream: every stream that the round reads, empty where the key has none there."""


class Emitter(Generic[P]):
    """Turn a task into keyed blobs: the start of a `RoundsJob`. Travels pickled, as `FileTask` does."""

    def setup(self) -> None:
        """Prepare a worker before its first task."""

    def emit(self, task: Task[P]) -> Emitted:
        """Yield the blobs of a task, and what it adds to sums."""
        raise NotImplementedError


class Grouping:
    """Process the blobs of one key in a round. Travels pickled, as `FileTask` does."""

    def setup(self) -> None:
        """Prepare a worker before its first key."""

    def process(self, key: int, streams: Streams) -> Emitted:
        """Yield blobs for further streams and addends of sums; may write files named by the key.

        The blobs of a stream arrive in no particular order.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Round:
    """A round: groups streams by key.

    Args:
        label: of the round, unique in its job.
        reads: streams whose blobs meet by key; each complete before the round starts.
        grouping: what is done with each key.
        writes: streams that it emits.
    """

    label: str
    reads: tuple[str, ...]
    grouping: Grouping
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VectorSum:
    """A sum of int64 vectors over all addends of its name.

    Args:
        name: by which addends name it.
        length: of the vectors; the sum of no addends is zeros.
    """

    name: str
    length: int


@dataclass(frozen=True)
class RoundsJob(Generic[P]):
    """A job of tasks and rounds, as a value: any engine runs it, with the same files and sums.

    Args:
        label: of the job.
        tasks: in order of their numbers.
        emitter: turns each task into blobs.
        writes: streams that the emitter emits.
        rounds: in an order in which every stream is written before it is read.
        file_task: run for each task before its emitter, unless its result is there already.
        sums: that emitters and rounds add to.

    Raises:
        ValueError: a round reads a stream that nothing before it writes, or two rounds share a label.
    """

    label: str
    tasks: Sequence[Task[P]]
    emitter: Emitter[P]
    writes: tuple[str, ...]
    rounds: Sequence[Round]
    file_task: FileTask[P] | None = None
    sums: tuple[VectorSum, ...] = ()

    def __post_init__(self) -> None:
        written = set(self.writes)
        for part in self.rounds:
            missing = [stream for stream in part.reads if stream not in written]
            if missing or not part.reads:
                raise ValueError(f"round {part.label!r} reads {', '.join(missing) or 'nothing'}, which no step writes")
            written.update(part.writes)
        labels = Counter(part.label for part in self.rounds)
        if len(labels) < len(self.rounds):
            raise ValueError(f"two rounds are called {labels.most_common(1)[0][0]!r}")

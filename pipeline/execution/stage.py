"""Run a stage in its folder: claim it for settings and inputs, fill it by tasks, finish it with a manifest."""

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pydantic

from openwit.pipeline.execution.engine import Engine
from openwit.pipeline.execution.files import LOCK, STAGE, STAGE_MANIFEST, write_versions
from openwit.pipeline.execution.jobs import FileTask, RoundsJob, Task, TaskResult
from openwit.pipeline.execution.progress import SILENT, Progress
from openwit.pipeline.execution.tasks import FAILURES, PROGRESS, clean_partials
from openwit.schemas.common.atomic import atomic_write, sha256_of
from openwit.schemas.common.errors import DataError, RecipeError, StorageError
from openwit.schemas.common.locks import hold_lock
from openwit.schemas.common.sealed import DamagedError, seal, unseal
from openwit.schemas.common.stopping import stop_if_asked
from openwit.schemas.common.storage.reading import remove_tree
from openwit.schemas.common.storage.store_path import StorePath
from openwit.schemas.common.storage_faults import is_disk_full, shown, storage_faults
from openwit.schemas.manifest import FileEntry, FunnelStep

if TYPE_CHECKING:
    import numpy as np

P = TypeVar("P")
CLAIM = f"{STAGE}/claim.json"

_log = logging.getLogger(__name__)


class StageRecord(pydantic.BaseModel):
    """The facts about a stage that later stages and the card need; `step` if the step has another name."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    stage: str
    step: str = ""
    settings: dict[str, Any]
    funnel: list[FunnelStep]
    counters: dict[str, int] = {}
    extra: dict[str, Any] = {}

    def step_name(self) -> str:
        """Return the name of the step in its build."""
        return self.step or self.stage


class StageManifest(pydantic.BaseModel):
    """The record of a finished stage, without times and absolute paths: same inputs and settings, same bytes."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    stage: str
    step: str = ""
    version: int
    settings: dict[str, Any]
    files: list[FileEntry]
    funnel: list[FunnelStep]
    counters: dict[str, int] = {}
    extra: dict[str, Any] = {}
    history: list[StageRecord] = []

    @classmethod
    def load(cls, folder: Path, stage: str) -> "StageManifest":
        """Read the manifest of a finished stage.

        Raises:
            DataError: the folder does not hold a finished stage of that name.
        """
        path = folder / STAGE_MANIFEST
        try:
            manifest = cls.model_validate_json(unseal(path.read_bytes(), path, required=False))
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"{folder} holds no finished {stage!r} stage: run that stage first") from None
        except DamagedError as error:
            raise DataError(
                f"{error}: delete it and run {stage!r}, or the whole build, again; only what is damaged is made anew"
            ) from None
        except (pydantic.ValidationError, RecursionError):
            raise DataError(f"{path} is not the manifest of a stage: give the folder that {stage!r} wrote") from None
        if manifest.stage != stage:
            raise DataError(f"{folder} holds the {manifest.stage!r} stage, expected {stage!r}")
        return manifest

    @classmethod
    def load_any(cls, folder: Path, expected: Sequence[str]) -> "StageManifest":
        """Read the manifest of a folder that holds any finished stage.

        Args:
            expected: names of stages that would do, for the message.

        Raises:
            DataError: the folder does not hold a finished stage.
        """
        try:
            found = json.loads((folder / STAGE_MANIFEST).read_bytes())["stage"]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            found = None
        if not isinstance(found, str):
            found = expected[0] if expected else "earlier"
        return cls.load(folder, found)

    def find(self, stage: str) -> StageRecord | None:
        """Return the latest record of a stage, of this manifest or its history; None if there is none."""
        records = [*self.history, self.record()]
        return next((record for record in reversed(records) if record.stage == stage), None)

    def paths(self, folder: Path, kind: str) -> list[Path]:
        """Return the files of the stage below its subfolder `kind`, sorted by name."""
        return [folder / entry.path for entry in self.entries(kind)]

    def entries(self, kind: str) -> list[FileEntry]:
        """Return the files of `paths` with their sizes and checksums."""
        return [f for f in sorted(self.files, key=lambda f: f.path) if f.path.startswith(f"{kind}/")]

    def record(self) -> StageRecord:
        """Return this stage as an entry of a later stage's history."""
        return StageRecord(
            stage=self.stage,
            step=self.step,
            settings=self.settings,
            funnel=self.funnel,
            counters=self.counters,
            extra=self.extra,
        )

    def rows_out(self, unit: str) -> int:
        """Return the rows out of the stage's last funnel line of a unit; 0 if there is none."""
        steps = [step for step in self.funnel if step.unit == unit]
        return steps[-1].rows_out if steps else 0


def merge_records(manifests: Sequence[StageManifest]) -> StageManifest:
    """Merge several runs of one stage into one for the history: sum funnels and counters, take the rest of the first.

    Settings of the others that differ are in `extra` under `other_settings`.
    """
    first = manifests[0]
    if len(manifests) == 1:
        return first
    steps: dict[tuple[str, str], list[FunnelStep]] = {}
    for manifest in manifests:
        for step in manifest.funnel:
            steps.setdefault((step.stage, step.unit), []).append(step)
    others = [m.settings for m in manifests[1:] if m.settings != first.settings]
    return first.model_copy(
        update={
            "funnel": [_sum_steps(stage, unit, lines) for (stage, unit), lines in steps.items()],
            "counters": dict(sorted(sum((Counter(m.counters) for m in manifests), Counter[str]()).items())),
            "extra": {**first.extra, "other_settings": others} if others else first.extra,
        }
    )


def _sum_steps(stage: str, unit: str, steps: Sequence[FunnelStep]) -> FunnelStep:
    reasons: Counter[str] = Counter()
    for step in steps:
        reasons.update(step.reasons)
    return FunnelStep(
        stage=stage,
        unit=unit,
        rows_in=sum(step.rows_in for step in steps),
        rows_out=sum(step.rows_out for step in steps),
        reasons=dict(sorted(reasons.items())),
    )


@dataclass
class StageResult:
    """The result of a stage: everything that its manifest needs beyond the settings, and versions of files in a
    store.
    """

    files: list[FileEntry] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    funnel: list[FunnelStep] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)
    extra: dict[str, Any] = field(default_factory=dict)

    def add_results(self, results: Sequence[TaskResult], steps: Sequence[str]) -> None:
        """Add the files and sum the funnel lines of finished tasks.

        Args:
            results: of one kind of task.
            steps: stage/unit of each funnel line, in the order of the funnel.
        """
        for task in results:
            self.files += task.files
            self.versions.update(task.versions)
            self.counters.update(task.counters)
        for step in steps:
            stage, unit = step.split("/")
            lines = [FunnelStep(stage=stage, unit=unit, **asdict(r.steps[step])) for r in results if step in r.steps]
            self.funnel.append(_sum_steps(stage, unit, lines))


@dataclass(frozen=True)
class Job:
    """The way stages run: the engine, the display of progress, and whether a folder's old build may be replaced.

    Args:
        engine: runs tasks and rounds.
        progress: shows a user what runs; nothing by default.
        replace: rebuild a folder that holds a stage with other settings or inputs, instead of raising.
    """

    engine: Engine
    progress: Progress = SILENT
    replace: bool = field(default=False, kw_only=True)

    def run(
        self, folder: Path, tasks: Sequence[Task[P]], label: str, unit: str, work: FileTask[P]
    ) -> list[TaskResult]:
        """Run file tasks with progress; see `Engine.run_tasks`.

        Args:
            unit: of the rows that the tasks count in their progress.
        """
        with self.progress.watch(label, folder, [task.name for task in tasks], unit):
            results = self.engine.run_tasks(folder, tasks, label, work)
        stop_if_asked()
        return results

    def run_rounds(
        self, folder: Path, job: RoundsJob[P], unit: str, *, progress_prefix: str = ""
    ) -> "dict[str, np.ndarray]":
        """Run a job of rounds with progress; see `Engine.run_rounds`.

        Args:
            unit: of the rows that the tasks count in their progress.
            progress_prefix: of the names under which the tasks report it.
        """
        with self.progress.watch(job.label, folder, [progress_prefix + task.name for task in job.tasks], unit):
            sums = self.engine.run_rounds(folder, job)
        stop_if_asked()
        return sums


def file_inputs(paths: Sequence[str]) -> dict[str, str]:
    """Return the identity of input files: size and modification time, because hashing a crawl takes too long."""
    identity = {}
    for name in paths:
        path = Path(name)
        if path.exists():
            stat = path.stat()
            identity[name] = f"{stat.st_size}:{stat.st_mtime_ns}"
        else:
            identity[name] = "remote"
    return identity


def stage_input(folder: Path) -> str:
    """Return the identity of a finished stage used as input: the sha256 of its manifest."""
    return sha256_of(folder / STAGE_MANIFEST)


def run_stage(
    job: Job,
    folder: Path,
    stage: str,
    version: int,
    settings: dict[str, Any],
    inputs: dict[str, str],
    execute: Callable[[], StageResult],
    upstream: Sequence[StageManifest] = (),
    *,
    step: str = "",
) -> tuple[StageManifest, bool]:
    """Run a stage unless its folder holds it finished; return its manifest and whether anything was executed.

    Raises:
        RecipeError: the folder holds another stage, or this one with other settings or inputs.
        StorageError: the folder holds other files, or cannot be written.
    """
    identity: dict[str, Any] = {"stage": stage, "version": version, "settings": settings, "inputs": inputs}
    if step:
        identity["step"] = step
    with storage_faults(folder):
        if _claim(job, folder, identity):
            try:
                return StageManifest.load(folder, stage), False
            except DataError as error:
                _log.warning("%s is run again: %s", step or stage, error)
        job.engine.prepare()
        clean_partials(folder)
        result = execute()
        manifest = StageManifest(
            stage=stage,
            step=step,
            version=version,
            settings=settings,
            files=sorted(result.files, key=lambda f: f.path),
            funnel=result.funnel,
            counters=dict(sorted(result.counters.items())),
            extra=result.extra,
            history=[record for before in upstream for record in [*before.history, before.record()]],
        )
        remove_tree(folder / PROGRESS)
        remove_tree(folder / FAILURES)
        stop_if_asked()
        write_versions(folder, {e.path: result.versions[e.path] for e in manifest.files if e.path in result.versions})
        atomic_write(folder / STAGE_MANIFEST, seal(manifest.model_dump_json(indent=1) + "\n"))
    return manifest, True


@contextmanager
def locked_stage(folder: Path) -> Iterator[None]:
    """Lock the folder of a stage against a second run; a folder of something else is left to `run_stage` to refuse.

    Raises:
        StorageError: another process runs a stage in the folder.
    """
    if _is_foreign(folder):
        yield
        return
    new = not folder.exists()
    with hold_lock(folder / LOCK, f"another command is running in {folder}: wait for it or choose another folder"):
        try:
            yield
        finally:
            if new and not (folder / CLAIM).exists() and not _is_foreign(folder):
                remove_tree(folder)  # refused before anything was written


def _is_foreign(folder: Path) -> bool:
    """Return whether a folder holds files and was not claimed by a stage."""
    if (folder / CLAIM).exists() or not folder.is_dir():
        return folder.exists() and not folder.is_dir()
    return any(not _is_bookkeeping(folder, path) for path in _contents(folder))


def _contents(folder: Path) -> list[Path]:
    return [*folder.iterdir(), *(folder / STAGE).glob("*")]


def _is_bookkeeping(folder: Path, path: Path) -> bool:
    """Return whether a path is that of a lock, or of the folder in which locks are."""
    return path == folder / STAGE or path.relative_to(folder).as_posix().startswith(LOCK)


def _claim(job: Job, folder: Path, identity: dict[str, Any]) -> bool:
    """Claim the folder; return whether the stage is finished in it."""
    identity = json.loads(json.dumps(identity, sort_keys=True))
    marker = folder / CLAIM
    if marker.exists():
        held = _held(marker)
        difference = None if held is None else first_difference(held, identity)
        if held is not None and difference is None:
            return (folder / STAGE_MANIFEST).exists()
        if not job.replace:
            remedy = "choose another output folder, or set replace to rebuild this one (--replace)"
            if held is None:
                raise StorageError(f"{marker} is damaged: {remedy}")
            what = f"the {held.get('stage')!r} stage of another recipe or input ({difference})"
            raise RecipeError(f"{folder} holds {what}; {remedy}")
        _empty(folder)
    elif _is_foreign(folder):
        raise StorageError(
            f"{folder} is a file: give a folder"
            if not folder.is_dir()
            else f"{folder} is not empty and was not made by this stage: choose another output folder"
        )
    text = json.dumps(identity, indent=1, sort_keys=True) + "\n"
    try:
        if isinstance(marker, StorePath) and not marker.exists():
            if not marker.create(text.encode()):
                raise StorageError(f"{folder} was claimed by another command a moment ago: choose another folder")
        else:
            atomic_write(marker, text)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise StorageError(f"{shown(folder)} cannot be written: {error.strerror or error}") from error
    return False


def _held(marker: Path) -> dict[str, Any] | None:
    """Return what a folder was claimed for; None if that cannot be read."""
    try:
        held = json.loads(marker.read_bytes())
    except (ValueError, RecursionError):
        return None
    return held if isinstance(held, dict) else None


def _empty(folder: Path) -> None:
    """Delete everything in a folder but its lock, which this process holds."""
    for path in _contents(folder):
        if _is_bookkeeping(folder, path):
            continue
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)


def first_difference(old: Any, new: Any, where: str = "") -> str | None:
    """Return the first key in which two JSON values differ, as `key was 1, now 2`; None if they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new)):
            found = first_difference(old.get(key), new.get(key), f"{where}.{key}" if where else key)
            if found:
                return found
        return None
    if old == new:
        return None
    for pattern, was in _IDENTITIES:
        if all(isinstance(value, str) and pattern.fullmatch(value) for value in (old, new)):
            return f"{where} was {was}"  # numbers that say nothing to a person
    return f"{where} was {_short(old)}, now {_short(new)}"


_IDENTITIES = (
    (re.compile(r"[0-9a-f]{32,128}"), "one with other contents"),
    (re.compile(r"\d+:\d{12,}"), "a file of another size or date"),
)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."

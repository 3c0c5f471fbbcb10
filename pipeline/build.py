"""Run the steps of a recipe in order; a second run resumes what was interrupted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from openwit.pipeline.dataset.store import RemoteFolder, load_manifest, open_store
from openwit.pipeline.execution.files import STAGE_MANIFEST
from openwit.pipeline.execution.stage import Job, StageManifest, first_difference
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.base import DATASET as DATASET_KIND
from openwit.pipeline.stages.base import BuildContext, Location
from openwit.pipeline.step import Step
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import RecipeError, StorageError
from openwit.schemas.common.locks import hold_lock
from openwit.schemas.common.settings import parse_yaml
from openwit.schemas.common.stopping import stop_if_asked
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.common.storage_faults import is_disk_full, shown, storage_error, storage_faults
from openwit.schemas.manifest import DatasetManifest

RECIPE_FILE = "recipe.yaml"
LOCK_FILE = ".lock"
DATASET = "dataset"
STAGES = "stages"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepResult:
    """The result of one step of a build.

    Attributes:
        name: of the step.
        folder: where its files are; a URL for a dataset that is written to one.
        manifest: of the finished stage.
        seconds: wall-clock time.
        executed: whether anything was run; False if it was finished before.
    """

    name: str
    folder: Location
    manifest: StageManifest
    seconds: float
    executed: bool


@dataclass(frozen=True)
class BuildResult:
    """The result of a build.

    Attributes:
        steps: one result per step of the recipe, in order.
        dataset: manifest of the dataset; None if no step of the recipe writes one.
        where: folder or URL of the dataset.
        seconds: wall-clock time of the whole build.
    """

    steps: list[StepResult]
    dataset: DatasetManifest | None
    where: str
    seconds: float

    @property
    def executed(self) -> bool:
        """Return whether any step was executed."""
        return any(step.executed for step in self.steps)

    def step(self, name: str) -> StepResult:
        """Return the result of a step by name.

        Raises:
            KeyError: there is no such step.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)


def build(
    recipe: Recipe,
    workdir: Path,
    job: Job,
    *,
    retry_failed: bool = False,
    dataset_url: str | None = None,
    on_step: Callable[[StepResult], None] | None = None,
) -> BuildResult:
    """Build a dataset below `workdir`, or at a URL.

    Layout: `stages/NAME` for each step, `dataset` for the result. A second run does nothing; a run after an
    interruption resumes.

    Args:
        retry_failed: retry images whose download failed with a transient error, and rebuild the later steps.
        dataset_url: where the dataset is written instead of `dataset`; the work folders stay in `workdir`.
        on_step: called with the result of each step as soon as it is finished.

    Raises:
        RecipeError: a setting is wrong, or `workdir` holds another recipe's build and `job.replace` is off.
        DataError: an input is missing, damaged or of the wrong kind.
        NetworkError: there is no network, or a remote store cannot be reached.
        StorageError: the disk is full, a folder cannot be written, or another build runs in `workdir`.
    """
    for step in recipe.steps:
        step.load().check(step.settings)
        if not (workdir / STAGES / step.name / STAGE_MANIFEST).exists():
            step.load().check_inputs(step.settings)
    claim_workdir(recipe, workdir, job.replace)
    with locked(workdir), storage_faults(workdir):
        started = time.monotonic()
        run = _Build(recipe, workdir, job, retry_failed, dataset_url)
        for step in recipe.steps:
            stop_if_asked()
            result = run.step(step)
            _log.info("step %s: %s in %.1f s", step.name, _outcome(result), result.seconds)
            if on_step is not None:
                on_step(result)
        dataset = load_manifest(open_store(run.dataset)) if run.writes_dataset else None
        return BuildResult(run.results, dataset, run.dataset, time.monotonic() - started)


@dataclass
class _Build:
    """The state of a running build."""

    recipe: Recipe
    workdir: Path
    job: Job
    retry_failed: bool
    dataset_url: str | None
    results: list[StepResult] = field(default_factory=list)
    writes_dataset: bool = False

    @property
    def dataset(self) -> str:
        """Return the folder or URL of the dataset."""
        return str(open_store(self.dataset_url or self.workdir / DATASET))

    def step(self, step: Step) -> StepResult:
        """Run a step on the outputs of earlier steps."""
        before = time.monotonic()
        stage = step.load()
        at = {result.name: result.folder for result in self.results}
        inputs = {port: [at[name] for name in names] for port, names in self.recipe.sources_of(step).items()}
        context = self._context(step)
        folder, where = self._folders(step)
        manifest, executed = stage.run(self.job, step.settings, inputs, folder, build=context)
        if stage.retries and self.retry_failed:
            # The retried images change every later step.
            self.job = replace(self.job, replace=True)
        result = StepResult(step.name, where, manifest, time.monotonic() - before, executed)
        self.results.append(result)
        return result

    def _folders(self, step: Step) -> tuple[Path, Location]:
        """Return the folder that a step works in, and the location of its output for later steps."""
        folder = self.workdir / STAGES / step.name
        if step.load().output != DATASET_KIND:
            return folder, folder
        self.writes_dataset = True
        # For a dataset at a URL the work folder keeps what a resume needs.
        return (folder if self._target() else as_path(self.dataset)), self.dataset

    def _target(self) -> str | None:
        """Return the URL of the dataset; None for a local folder."""
        store = open_store(self.dataset)
        return store.url if isinstance(store, RemoteFolder) else None

    def _context(self, step: Step) -> BuildContext:
        steps = {other.name: other.further() for other in self.recipe.steps if other.further()}
        folders = {result.name: result.folder for result in self.results if isinstance(result.folder, Path)}
        return BuildContext(step.name, self.recipe.dataset, self._target(), self.retry_failed, steps, folders)


def _outcome(result: StepResult) -> str:
    if not result.executed:
        return "finished before"
    if not result.manifest.funnel:
        return "done"
    last = result.manifest.funnel[-1]
    return f"{last.rows_in} {last.unit} in, {last.rows_out} out"


def claim_workdir(recipe: Recipe, workdir: Path, may_replace: bool) -> None:
    """Claim a folder for a recipe.

    Raises:
        RecipeError: the folder holds another recipe's build, or files that no build wrote.
        StorageError: it cannot be written.
    """
    marker = workdir / RECIPE_FILE
    plain = recipe.to_dict()
    if marker.exists():
        held = _held(marker)
        if held == plain:
            return
        difference = first_difference(_by_name(held), _by_name(plain)) or "its steps were in another order"
        if not may_replace:
            raise RecipeError(
                f"{workdir} holds another recipe's build ({difference}); "
                "choose another workdir, or set replace (--replace) to rebuild what the change affects"
            )
    elif workdir.exists() and not workdir.is_dir():
        raise StorageError(f"workdir {workdir} is a file: give a folder")
    elif (workdir / STAGES).exists() or (workdir / DATASET).exists():
        raise RecipeError(f"{workdir} holds {STAGES}/ or {DATASET}/ of something else: choose another workdir")
    try:
        atomic_write(marker, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    except OSError as error:
        if is_disk_full(error):
            raise storage_error(error, workdir) or error from error
        raise StorageError(f"workdir {shown(workdir)} cannot be written: {error.strerror or error}") from error


def _held(marker: Path) -> Any:
    """Return the recipe that a work folder was claimed for.

    Raises:
        RecipeError: it cannot be read.
    """
    try:
        held = parse_yaml(marker.read_bytes(), str(marker))
        if not isinstance(held, Mapping):
            raise RecipeError(f"{marker} holds no recipe")
        return held
    except RecipeError as error:
        remedy = f"write the recipe of {marker.parent} there again, or choose another workdir"
        raise RecipeError(f"{error}; {remedy}") from error


def _by_name(recipe: Any) -> Any:
    """Return a recipe as plain data with its steps by name, so that a difference is named `select.cap`."""
    if not isinstance(recipe, Mapping) or not isinstance(recipe.get("steps"), list):
        return recipe
    steps: dict[str, Any] = {}
    for step in recipe["steps"]:
        if "stage" in step:
            wiring = {f"({key})": step[key] for key in ("stage", "from") if key in step}
            steps[step["name"]] = {**wiring, **step["settings"]}
        else:
            steps.update(step)
    return {**{key: value for key, value in recipe.items() if key != "steps"}, **steps}


def locked(workdir: Path) -> AbstractContextManager[object]:
    """Lock the folder against a second build; the lock ends with the process, however it ends.

    Raises:
        StorageError: another build runs in the folder.
    """
    busy = f"another build is running in {workdir}: wait for it or choose another workdir"
    return hold_lock(workdir / LOCK_FILE, busy)

"""Run the steps of a recipe in order; a second run resumes what was interrupted."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from openwit.pipeline.dataset.store import RemoteFolder, load_manifest, open_store
from openwit.pipeline.execution.stage import Job, StageManifest, first_difference
from openwit.pipeline.recipe import Recipe, Step
from openwit.pipeline.stages.base import DATASET as DATASET_KIND
from openwit.pipeline.stages.base import BuildContext, Location
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import RecipeError, StorageError
from openwit.schemas.common.locks import lock_file
from openwit.schemas.manifest import DatasetManifest

RECIPE_FILE = "recipe.yaml"
LOCK_FILE = ".lock"
DATASET = "dataset"
STAGES = "stages"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepResult:
    """What one step of a build ended with.

    Attributes:
        name: of the step.
        folder: where its files are; a URL for a dataset that is written to one.
        manifest: of the finished stage.
        seconds: that it took.
        executed: whether it did anything; False where it was finished before.
    """

    name: str
    folder: Location
    manifest: StageManifest
    seconds: float
    executed: bool


@dataclass(frozen=True)
class BuildResult:
    """What a build ended with.

    Attributes:
        steps: one result per step of the recipe, in order.
        dataset: manifest of the dataset; None for a recipe whose steps do not write one.
        where: folder or URL of the dataset.
        seconds: that the whole build took.
    """

    steps: list[StepResult]
    dataset: DatasetManifest | None
    where: str
    seconds: float

    @property
    def executed(self) -> bool:
        """Whether any step did anything."""
        return any(step.executed for step in self.steps)

    def step(self, name: str) -> StepResult:
        """The result of the step of a name.

        Raises:
            KeyError: there is none.
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
    """Builds a dataset below `workdir`, or at a URL.

    Layout: `stages/NAME` for each step, `dataset` for the result. A second run does nothing; a run after an
    interruption resumes.

    Args:
        retry_failed: retry images whose download failed for a transient reason; later steps are rebuilt where that
            changed something.
        dataset_url: where the dataset is written instead of `dataset`; the work folders stay in `workdir`.
        on_step: called with the result of each step as soon as it is finished.

    Raises:
        OpenWITError: bad input, or `workdir` holds another recipe's build and `job.replace` is off.
    """
    for step in recipe.steps:
        step.load().check(step.settings)
    claim_workdir(recipe, workdir, job.replace)
    with locked(workdir):
        started = time.monotonic()
        run = _Build(recipe, workdir, job, retry_failed, dataset_url)
        for step in recipe.steps:
            result = run.step(step)
            _log.info("step %s: %s in %.1f s", step.name, _outcome(result), result.seconds)
            if on_step is not None:
                on_step(result)
        dataset = load_manifest(open_store(run.dataset)) if run.writes_dataset else None
        return BuildResult(run.results, dataset, run.dataset, time.monotonic() - started)


@dataclass
class _Build:
    """A build as it goes from step to step."""

    recipe: Recipe
    workdir: Path
    job: Job
    retry_failed: bool
    dataset_url: str | None
    results: list[StepResult] = field(default_factory=list)
    writes_dataset: bool = False

    @property
    def dataset(self) -> str:
        """Folder or URL of the dataset."""
        return str(open_store(self.dataset_url or self.workdir / DATASET))

    def step(self, step: Step) -> StepResult:
        """Runs a step on the outputs of the steps before."""
        before = time.monotonic()
        stage = step.load()
        at = {result.name: result.folder for result in self.results}
        inputs = {port: [at[name] for name in names] for port, names in self.recipe.sources_of(step).items()}
        context = self._context(step)
        folder, where = self._folders(step)
        manifest, executed = stage.run(self.job, step.settings, inputs, folder, build=context)
        if stage.retries and self.retry_failed:
            # What the retry brought changes every later step.
            self.job = replace(self.job, replace=True)
        result = StepResult(step.name, where, manifest, time.monotonic() - before, executed)
        self.results.append(result)
        return result

    def _folders(self, step: Step) -> tuple[Path, Location]:
        """The folder that a step works in, and where its output is for later steps."""
        folder = self.workdir / STAGES / step.name
        if step.load().output != DATASET_KIND:
            return folder, folder
        self.writes_dataset = True
        # A dataset at a URL leaves its stage a work folder, which keeps what resuming needs.
        return (folder if self._target() else Path(self.dataset)), self.dataset

    def _target(self) -> str | None:
        """URL of the dataset; None for one in a local folder."""
        place = open_store(self.dataset)
        return place.url if isinstance(place, RemoteFolder) else None

    def _context(self, step: Step) -> BuildContext:
        steps = {other.name: other.further() for other in self.recipe.steps if other.further()}
        return BuildContext(step.name, self.recipe.dataset, self._target(), self.retry_failed, steps)


def _outcome(result: StepResult) -> str:
    if not result.executed:
        return "finished before"
    if not result.manifest.funnel:
        return "done"
    last = result.manifest.funnel[-1]
    return f"{last.rows_in} {last.unit} in, {last.rows_out} out"


def claim_workdir(recipe: Recipe, workdir: Path, may_replace: bool) -> None:
    """Claims a folder for a recipe.

    Raises:
        RecipeError: the folder belongs to another recipe, or holds files that no build made.
        StorageError: it cannot be written.
    """
    marker = workdir / RECIPE_FILE
    plain = recipe.to_dict()
    if marker.exists():
        held = yaml.safe_load(marker.read_text())
        if held == plain:
            return
        difference = first_difference(_by_name(held), _by_name(plain)) or "its steps were in another order"
        if not may_replace:
            raise RecipeError(
                f"{workdir} holds another recipe's build ({difference}); "
                "give another --workdir, or --replace to rebuild what the change touches"
            )
    elif workdir.exists() and not workdir.is_dir():
        raise StorageError(f"--workdir {workdir} is a file: give a folder")
    elif (workdir / STAGES).exists() or (workdir / DATASET).exists():
        raise RecipeError(f"{workdir} holds {STAGES}/ or {DATASET}/ of something else: give another --workdir")
    try:
        atomic_write(marker, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise StorageError(f"--workdir {workdir} cannot be written: {error.strerror or error}") from error


def _by_name(recipe: Any) -> Any:
    """A recipe as plain data with its steps by name, so that a difference is named `select.cap`."""
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


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps a second build out of the folder; the lock goes with the process, however it ends.

    Raises:
        StorageError: another build runs in the folder.
    """
    with (workdir / LOCK_FILE).open("w") as file:
        if not lock_file(file, wait=False):
            raise StorageError(f"another build is running in {workdir}: wait for it or give another --workdir")
        file.write(str(os.getpid()))
        file.flush()
        yield

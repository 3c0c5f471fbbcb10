"""Run commands on data that exists: make their steps, build, and write the report of a decontamination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openwit.pipeline.build import STAGES, BuildResult, StepResult
from openwit.pipeline.dataset.places import work_folder
from openwit.pipeline.direct import build_to, recipe_of
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.existing import Existing, Wanted, judged_dedup, open_existing, steps_of
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.rewriting.overlap import write_overlap
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.storage.remote import is_remote
from openwit.schemas.common.storage.store_path import as_path

OVERLAP_ENDING = ".overlap.parquet"


@dataclass(frozen=True)
class Done:
    """What a command did.

    Attributes:
        build: its result.
        existing: what it read.
        report: file of the report of a decontamination; None if there is none.
        counts: of the report.
    """

    build: BuildResult
    existing: Existing
    report: Path | None = None
    counts: dict[str, int] = field(default_factory=dict)


def run_existing(
    inputs: Sequence[str],
    wanted: Wanted,
    out: str | Path,
    job: Job,
    *,
    name: str = "",
    work: Path | None = None,
    on_recipe: Callable[[Existing, Recipe], None] = lambda _existing, _recipe: None,
    on_step: Callable[[StepResult], None] | None = None,
) -> Done:
    """Run a command on data that exists; its dataset goes to `out`.

    Args:
        inputs: datasets, tars, tables with images, folders of images.
        wanted: what is to be done.
        name: of the dataset; by default that of its folder.
        work: folder of the steps; OUT.work by default.
        on_recipe: called with what the inputs are, and the recipe, before anything runs.
        on_step: called with the result of each step as soon as it is finished.

    Raises:
        OpenWITError: bad input; `out` holds something else.
    """
    existing = open_existing(inputs, wanted.without)
    recipe = recipe_of(steps_of(existing, wanted), out, name=name)
    on_recipe(existing, recipe)
    done = build_to(recipe, out, job, inputs=existing.names, work=work, on_step=on_step)
    return Done(done, existing)


def report_overlap(
    inputs: Sequence[str],
    wanted: Wanted,
    out: str | Path | None,
    report: str | Path | None,
    job: Job,
    *,
    name: str = "",
    work: Path | None = None,
    on_recipe: Callable[[Existing, Recipe], None] = lambda _existing, _recipe: None,
    on_step: Callable[[StepResult], None] | None = None,
) -> Done:
    """Decontaminate, and report the pairs that were found; without `out` only report.

    Args:
        out: folder or URL of the new dataset; None for the report only.
        report: file to write; OUT.overlap.parquet by default.

    Raises:
        OpenWITError: bad input; `out` holds something else.
    """
    target = _report_path(out, report)
    folder = work or work_folder(out if out is not None else target)
    if out is not None:
        done = run_existing(inputs, wanted, out, job, name=name, work=folder, on_recipe=on_recipe, on_step=on_step)
    else:
        done = _judge_only(inputs, wanted, folder, job, on_recipe, on_step)
    step = judged_dedup(steps_of(done.existing, wanted))
    if step is None:
        raise RecipeError("nothing was compared with evaluation images")
    counts = write_overlap(folder / STAGES / step, target, done.existing.sources)
    return Done(done.build, done.existing, target, counts)


def _report_path(out: str | Path | None, report: str | Path | None) -> Path:
    if report is not None:
        return as_path(report).absolute()
    if out is None:
        raise RecipeError("name the file of the report (--report) where no dataset is written")
    place = as_path(str(out).rstrip("/")) if is_remote(str(out)) else Path(out).absolute()
    return place.with_name(f"{place.name}{OVERLAP_ENDING}")


def _judge_only(
    inputs: Sequence[str],
    wanted: Wanted,
    folder: Path,
    job: Job,
    on_recipe: Callable[[Existing, Recipe], None],
    on_step: Callable[[StepResult], None] | None,
) -> Done:
    from openwit.pipeline.build import build

    existing = open_existing(inputs, wanted.without)
    steps = [step for step in steps_of(existing, wanted) if step.stage != "shard"]
    last = next(n for n, step in enumerate(steps) if step.stage == "dedup")
    recipe = Recipe("report", steps[: last + 1])
    on_recipe(existing, recipe)
    return Done(build(recipe, folder, job, on_step=on_step), existing)

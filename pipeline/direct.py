"""Run steps that a command makes of its options as one build whose dataset has a folder or URL of its own.

The steps are those of a recipe and run as a recipe's do. Their folders are in a work folder beside the dataset,
OUT.work: a second run resumes there, and `wit explain` finds there what was dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from openwit.pipeline.dataset.places import STAGES, work_folder
from openwit.pipeline.execution.files import STAGE_MANIFEST
from openwit.schemas.common.errors import DataError, RecipeError, StorageError
from openwit.schemas.common.storage.reading import remove_tree
from openwit.schemas.common.storage.remote import is_remote
from openwit.schemas.common.storage.store_path import as_path

if TYPE_CHECKING:
    from openwit.pipeline.build import BuildResult, StepResult
    from openwit.pipeline.execution.stage import Job
    from openwit.pipeline.recipe import Recipe
    from openwit.pipeline.step import Step

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def dataset_name(out: str | Path) -> str:
    """Return a name for the dataset of a folder or URL: the last part of it."""
    last = str(out).rstrip("/").rpartition("/")[2]
    return _NOT_IN_NAMES.sub("-", last).strip("-._") or "dataset"


def recipe_of(steps: Sequence[Step], out: str | Path, *, name: str = "", description: str = "") -> Recipe:
    """Return the recipe of some steps; steps that are missing and can pass everything on are inserted.

    Raises:
        RecipeError: the steps do not fit each other.
    """
    from openwit.pipeline.recipe import Recipe

    return Recipe(name or dataset_name(out), steps, description)


def build_to(
    recipe: Recipe,
    out: str | Path,
    job: Job,
    *,
    inputs: Iterable[str] = (),
    work: Path | None = None,
    retry_failed: bool = False,
    on_step: Callable[[StepResult], None] | None = None,
) -> BuildResult:
    """Build a dataset at `out`, with its work folder beside it.

    Args:
        out: folder or URL of the dataset.
        inputs: what the command reads: `out` must not lie in it, nor hold it.
        work: folder of the steps; OUT.work by default.
        retry_failed: retry images whose download failed for a transient reason.
        on_step: called with the result of each step as soon as it is finished.

    Raises:
        OpenWITError: bad input; `out` holds something else.
    """
    from openwit.pipeline.build import RECIPE_FILE, build

    folder = as_path(work) if work is not None else work_folder(out)
    refuse_overlap(out, inputs)
    refuse_used(out, is_ours=(folder / RECIPE_FILE).exists() or job.replace)
    where = out if is_remote(str(out)) else Path(out).absolute()
    with unclaimed_if_refused(folder):
        return build(recipe, folder, job, retry_failed=retry_failed, dataset_url=str(where), on_step=on_step)


@contextmanager
def unclaimed_if_refused(work: Path) -> Iterator[None]:
    """Remove a work folder that the block made if it ends by bad input before any step is finished.

    A command whose option was wrong can so be given again with the right one.
    """
    new = not work.exists()
    try:
        yield
    except (RecipeError, DataError):
        if new and not any(work.glob(f"{STAGES}/*/{STAGE_MANIFEST}")):
            remove_tree(work)
        raise


def refuse_used(out: str | Path, *, is_ours: bool) -> None:
    """Refuse an output that holds something else, before anything is read.

    Args:
        is_ours: whether an earlier run of the command began it.

    Raises:
        StorageError: it does.
    """
    folder = as_path(out)
    if not is_remote(str(out)) and folder.exists() and not folder.is_dir():
        raise StorageError(f"{out} is a file: give a folder that does not exist yet")
    if not is_ours and folder.exists() and any(folder.iterdir()):
        raise StorageError(f"{out} is not empty and was not made by this command: choose another folder for --out")


def refuse_overlap(out: str | Path, inputs: Iterable[str]) -> None:
    """Refuse an output in an input, or around it: it would be read as part of the input, or written over.

    Raises:
        StorageError: they overlap.
    """
    mine = _parts(out)
    for name in inputs:
        theirs = _parts(name)
        shorter = min(len(mine), len(theirs))
        if mine[:shorter] == theirs[:shorter]:
            raise StorageError(f"--out {out} and the input {name} overlap: choose a folder outside it")


def _parts(where: str | Path) -> tuple[str, ...]:
    if is_remote(str(where)):
        return tuple(str(where).rstrip("/").split("/"))
    return Path(where).resolve().parts

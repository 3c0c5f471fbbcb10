"""Runs the stages of a recipe in order, resumes what was cut off, and says what it did."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import yaml
from rich.console import Console

from openwit.pipeline.dataset.store import load_manifest, open_store
from openwit.pipeline.execution.stage import Job, StageManifest, first_difference
from openwit.pipeline.plugins import check_plugins
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.reporting import print_excluded, print_funnel, print_stage
from openwit.pipeline.stages.candidates import stage as candidates
from openwit.pipeline.stages.card import stage as card
from openwit.pipeline.stages.dedup import stage as dedup
from openwit.pipeline.stages.fetch import stage as fetch
from openwit.pipeline.stages.queries import stage as queries
from openwit.pipeline.stages.redraw import stage as redraw
from openwit.pipeline.stages.select import stage as select
from openwit.pipeline.stages.shard import stage as shard
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import OpenWITError, StorageError
from openwit.schemas.common.locks import lock_file
from openwit.schemas.manifest import DatasetManifest

RECIPE_FILE = "recipe.yaml"
LOCK_FILE = ".lock"
DATASET = "dataset"
STAGES = "stages"

Step = Callable[[], tuple[StageManifest, bool]]


def build(
    recipe: Recipe, workdir: Path, job: Job, retry_failed: bool = False, dataset_url: str | None = None
) -> DatasetManifest:
    """Builds a dataset below `workdir`, or at a URL, and returns its manifest.

    Layout: `stages/NAME` a folder for each stage, `dataset` the result. A second run does nothing; a run after a
    kill goes on where the first was.

    Args:
        retry_failed: ask again for images that failed for reasons that pass; what follows is built anew where that
            brought something.
        dataset_url: where the dataset goes instead of `dataset`; the work folders stay in `workdir`.

    Raises:
        OpenWITError: bad input, or `workdir` holds another recipe's build and `job.replace` is off.
    """
    check_plugins(recipe)
    console = Console()
    claim_workdir(recipe, workdir, job.replace)
    with locked(workdir):
        started = time.monotonic()
        did_something = False
        for name, step in _steps(recipe, workdir, job, retry_failed, dataset_url):
            before = time.monotonic()
            manifest, did = step()
            did_something |= did
            print_stage(console, name, manifest, time.monotonic() - before, did)
            print_excluded(console, manifest, workdir / STAGES / name)
        place = open_store(dataset_url or workdir / DATASET)
        did_something |= card.run(job, recipe.card, str(place))
        dataset = load_manifest(place)
        print_funnel(console, dataset)
        _say_result(console, dataset, str(place), time.monotonic() - started, did_something)
    return dataset


def _steps(
    recipe: Recipe, workdir: Path, job: Job, retry_failed: bool, dataset_url: str | None
) -> Iterator[tuple[str, Step]]:
    at = {name: workdir / STAGES / name for name in ("queries", "candidates", "select", "fetch", "dedup")}
    query_file = at["queries"] / queries.QUERY_FILE
    yield "queries", lambda: queries.run(job, recipe.queries, at["queries"])
    yield "candidates", lambda: candidates.run(job, recipe.candidates, at["candidates"])
    yield "select", lambda: select.run(job, recipe.select, [at["candidates"]], query_file, at["select"])
    yield "fetch", lambda: fetch.run(job, recipe.fetch, at["select"], at["fetch"], retry_failed)
    if retry_failed:
        job = replace(job, replace=True)
    yield "dedup", lambda: dedup.run(job, recipe.dedup, at["fetch"], at["dedup"])
    survived = at["dedup"]
    if recipe.select.oversample > 1:
        survived = workdir / STAGES / "redraw"
        yield "redraw", lambda: redraw.run(job, at["dedup"], survived)
    title = shard.Title(recipe.name, recipe.description)
    folder, target = shard.folders(dataset_url or str(workdir / DATASET), workdir / STAGES / "shard")
    yield "shard", lambda: shard.run(job, recipe.shard, title, survived, folder, target)


def claim_workdir(recipe: Recipe, workdir: Path, may_replace: bool) -> None:
    """Makes a folder this recipe's.

    Raises:
        OpenWITError: the folder belongs to another recipe, or holds files that no build made.
    """
    marker = workdir / RECIPE_FILE
    settings = recipe.model_dump(mode="json")
    if marker.exists():
        difference = first_difference(yaml.safe_load(marker.read_text()), settings)
        if difference is None:
            return
        if not may_replace:
            raise OpenWITError(
                f"{workdir} holds another recipe's build ({difference}); "
                "give another --workdir, or --replace to rebuild what the change touches"
            )
    elif workdir.exists() and not workdir.is_dir():
        raise OpenWITError(f"--workdir {workdir} is a file: give a folder")
    elif (workdir / STAGES).exists() or (workdir / DATASET).exists():
        raise OpenWITError(f"{workdir} holds {STAGES}/ or {DATASET}/ of something else: give another --workdir")
    try:
        atomic_write(marker, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise OpenWITError(f"--workdir {workdir} cannot be written: {error.strerror or error}") from error


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps a second build out of the folder; the lock goes with the process, however it ends."""
    with (workdir / LOCK_FILE).open("w") as file:
        if not lock_file(file, wait=False):
            raise StorageError(f"another build is running in {workdir}: wait for it or give another --workdir")
        file.write(str(os.getpid()))
        file.flush()
        yield


def _say_result(console: Console, dataset: DatasetManifest, where: str, seconds: float, did: bool) -> None:
    sizes = ", ".join(f"{dataset.samples(split):,} samples in {split}" for split in dataset.splits())
    if did:
        console.print(f"\nBuilt {dataset.name!r} in {seconds:.0f} s: {sizes}.", soft_wrap=True)
    else:
        console.print(f"\nNothing to do: {where} is complete ({sizes}).", soft_wrap=True)
    console.print(f"Dataset: {where}\nCard:    {where}/{card.HTML}", highlight=False, soft_wrap=True)

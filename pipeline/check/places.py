"""Check what does not need a graph: the flags, the packages, and whether workers see what a build reads and writes."""

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages import STAGES
from openwit.pipeline.stages.base import DATASET
from openwit.pipeline.step import Step
from openwit.schemas.common.storage.remote import is_remote

WORKERS_READ: dict[str, tuple[str, ...]] = {
    "queries": ("wikipedia", "pageviews"),
    "candidates": ("inputs", "filters.adult_words"),
    "select": (),
    "fetch": ("blocklist", "download.ca_file"),
    "dedup": ("exclude", "remove"),
    "redraw": (),
    "shard": (),
    "card": (),
    "embed": ("dataset", "images", "texts"),
}
"""Settings by stage that name files which workers open."""
_OF_ONE_MACHINE = ("memory://", "file://", "local://")
_PACKAGES = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs")}


def wrong_places(recipe: Recipe, workdir: str, dataset: str | None) -> list[str]:
    """Return a sentence for each place that workers on other machines do not see, with the setting that names it."""
    found = [] if _is_seen(workdir) else [_sentence("--workdir", workdir)]
    if dataset is not None and not _is_seen(dataset):
        found.append(_sentence("--dataset", dataset))
    for step in recipe.steps:
        for key, place in places_of(step):
            if not _is_seen(place):
                found.append(_sentence(f"{step.name}.{key}", place))
    return found


def missing_packages(runner: str, recipe: Recipe, workdir: str, dataset: str | None) -> list[str]:
    """Return a sentence for each package that the build needs here and on its workers, and that is not here."""
    places = [
        workdir,
        *([dataset] if dataset else []),
        *(place for step in recipe.steps for _, place in places_of(step)),
    ]
    schemes = {place.partition("://")[0].lower() for place in places if is_remote(place)}
    needed = {_PACKAGES[scheme] for scheme in schemes if scheme in _PACKAGES}
    if runner == "dataflow":
        needed.add(("google.auth", "gcp"))
    return [
        f"{module} is not installed here: the build needs pip install 'openwit[{extra}]', here and on its workers"
        for module, extra in sorted(needed)
        if not _is_installed(module)
    ]


def unknown_to_workers(recipe: Recipe) -> list[str]:
    """Return a sentence for each module of the user's own that must be installed on the workers, too."""
    own = sorted({step.stage.partition(".")[0] for step in recipe.steps if step.stage not in STAGES})
    return [f"{module} is a package of your own: install it in the image of the workers" for module in own]


def places_of(step: Step) -> Iterator[tuple[str, str]]:
    """Yield the places that the settings of a step name for its workers, with their keys.

    Of a stage that is not ours, every text that is the path of something here counts.
    """
    plain = step.settings.model_dump(mode="json")
    if step.stage not in STAGES:
        yield from _existing(plain)
        return
    for key in WORKERS_READ[step.stage]:
        value: Any = plain
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):  # a function of the user's with its settings
            yield from _existing(value, key)
            continue
        for place in [value] if isinstance(value, str) else value or ():
            yield key, place


def _existing(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts that are the path of something here, with their keys."""
    yield from ((name, text) for name, text in _texts(value, key) if "/" in text and Path(text).exists())


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner, key)


def _is_seen(place: str) -> bool:
    return is_remote(place) and not place.lower().startswith(_OF_ONE_MACHINE)


def _sentence(setting: str, place: str) -> str:
    shown = place if is_remote(place) else os.path.abspath(place)
    return f"{setting}: {shown} is a place of this machine, which the workers do not see: give a URL (gs://…, s3://…)"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def writes_dataset(recipe: Recipe) -> str:
    """Return the name of the step that writes the dataset; empty if none does."""
    return next((s.name for s in recipe.steps if s.load().output == DATASET and not s.load().in_place), "")

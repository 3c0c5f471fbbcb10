"""Make the steps of `wit fetch` from its options: read, download, check, resize and shard in one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from openwit.pipeline.direct import dataset_name
from openwit.pipeline.execution.files import STAGE_MANIFEST, checked
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.shard.input_keys import check_selected_keys
from openwit.pipeline.step import Step
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.candidates import SELECTED

if TYPE_CHECKING:
    from openwit.pipeline.build import StepResult

READ, SELECT, FETCH, DEDUP, SHARD = "candidates", "select", "fetch", "dedup", "shard"
_STEPS = (READ, SELECT, FETCH, DEDUP, SHARD)
TIMEOUT = "fetch.download.timeout_s"
_CONNECT_S = 8.0


def fetch_recipe(
    inputs: Sequence[str],
    out: str,
    options: Mapping[str, Any],
    *,
    form: str | None,
    sets: Sequence[str] = (),
    name: str = "",
) -> Recipe:
    """Return the recipe of `wit fetch`: every image of the inputs is fetched, none is left out as a duplicate.

    Args:
        inputs: lists of URLs, tables, tars, folders.
        out: folder or URL of the dataset.
        options: dotted keys of settings to values.
        form: of the shards; None ends with the step fetch.
        sets: `key=value` of the step fetch, or `STEP.key=value`.
        name: of the dataset; empty for the name of its folder.

    Raises:
        RecipeError: a setting is wrong.
    """
    steps: dict[str, dict[str, Any]] = {
        READ: {"inputs": list(inputs), "texts_required": False},
        SELECT: {"balance": "all"},
        FETCH: {},
        DEDUP: {"duplicates": "keep"},
        SHARD: {"order": "input", "format": form},
    }
    for step, settings in nested(options).items():
        steps[step] |= settings
    names = _STEPS if form else (READ, SELECT, FETCH)
    raw = {"name": name or dataset_name(out), "steps": [{step: steps[step]} for step in names]}
    return Recipe.parse(raw, "options", [_override(key) for key in sets])


def check_before_fetch(recipe: Recipe, done: StepResult) -> None:
    """Refuse keys of the inputs that cannot be those of the dataset as soon as pairs are selected.

    Args:
        recipe: of `wit fetch`.
        done: a step that is finished; only the selection is checked.

    Raises:
        DataError: a key is missing, cannot name files, or is that of several images.
    """
    if done.name != SELECT or recipe.step(SHARD).settings.keys != "input":
        return
    folder = as_path(done.folder)
    if recipe.step(DEDUP).settings.duplicates == "keep" and not (folder.parent / FETCH / STAGE_MANIFEST).exists():
        check_selected_keys([checked(path) for path in done.manifest.paths(folder, SELECTED.name)])


def steps_of(recipe: Recipe, names: Sequence[str]) -> list[Step]:
    """Return some steps of a recipe."""
    return [recipe.step(name) for name in names]


def nested(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return dotted keys of settings as the settings of each step; a short timeout is also that for connecting."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        *path, last = key.split(".")
        at = found
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    timeout = options.get(TIMEOUT)
    if timeout is not None:
        found[FETCH]["download"]["connect_timeout_s"] = min(timeout, _CONNECT_S)
    return found


def _override(text: str) -> str:
    return text if text.partition(".")[0] in _STEPS else f"{FETCH}.{text}"

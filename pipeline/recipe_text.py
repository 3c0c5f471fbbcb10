"""Read the steps of a recipe from plain data, before their settings are checked, and say what is wrong with it."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openwit.pipeline.stages import STAGES, stage_named
from openwit.pipeline.stages.base import Stage
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import apply_override

_DATA = {
    **dict.fromkeys((".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson"), "a table"),
    **dict.fromkeys((".warc", ".arc", ".wat"), "a crawl archive"),
    **dict.fromkeys((".tar", ".tgz", ".zip"), "an archive of files"),
}
_STEP_KEYS = ("stage", "name", "from", "settings")


def refuse_data(path: Path) -> None:
    """Say what to do with a table, an archive or a folder that was given in place of a recipe."""
    kinds = [_DATA[suffix] for suffix in map(str.lower, path.suffixes) if suffix in _DATA]
    if path.is_dir():
        kinds = ["a folder"]
    if kinds:
        raise RecipeError(
            f"{path} is {kinds[0]}, not a recipe: `wit init pairs` copies a recipe to edit, whose candidates.inputs "
            f"names data like this; `wit candidates --input {path} --out FOLDER` reads it alone"
        )


def plain_settings(stage: Stage[Any], found: Any, name: str) -> dict[str, Any]:
    """Return the settings of a step as a mapping: nothing for null, what a word of the stage stands for.

    Raises:
        RecipeError: it is neither.
    """
    if isinstance(found, str) and found in stage.shorthands:
        return dict(stage.shorthands[found])
    if not isinstance(found or {}, Mapping):
        words = "".join(f", or {word!r}" for word in stage.shorthands)
        raise RecipeError(f"step {name}: its settings must be key: value{words}, got {found!r}")
    return dict(found or {})


@dataclass
class Draft:
    """A step as plain data, before its settings are checked."""

    stage: str
    name: str
    settings: dict[str, Any]
    sources: dict[str, list[str]]


def read_draft(entry: Any, number: int, where: str) -> Draft:
    """Return one entry of `steps`, in the short or the long form."""
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, dict) or not entry:
        raise RecipeError(f"{where}: step {number} must look like `- stage: {{settings}}`, got {entry!r}")
    if "stage" not in entry:
        if len(entry) > 1:
            raise RecipeError(
                f"{where}: step {number} has the keys {', '.join(map(repr, entry))}: begin each step with a dash, or "
                "name its stage with the key 'stage'"
            )
        [(stage, settings)] = entry.items()
        entry = {"stage": stage, "settings": settings}
    for key in entry:
        if key not in _STEP_KEYS:
            raise RecipeError(f"{where}: step {number}: unknown key {key!r}{hint(key, _STEP_KEYS, 'known keys')}")
    try:
        stage = stage_named(str(entry["stage"]))
    except RecipeError as error:
        raise RecipeError(f"{where}: step {number}: {error}") from error
    name = entry.get("name") or stage.name
    try:
        settings = plain_settings(stage, entry.get("settings"), name)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error
    sources = entry.get("from") or {}
    if not isinstance(sources, dict):
        raise RecipeError(f"{where}: step {name}: `from` must be input: step, got {sources!r}")
    listed = {port: list(steps) if isinstance(steps, list) else [str(steps)] for port, steps in sources.items()}
    return Draft(str(entry["stage"]), str(name), copy.deepcopy(settings), listed)


def apply_to_draft(head: dict[str, Any], drafts: Sequence[Draft], override: str) -> None:
    """Apply `NAME.key=value` to the draft of the step of that name, or `name=…` and `description=…` to the head.

    Raises:
        RecipeError: it is none of these.
    """
    dotted, separator, _ = override.partition("=")
    name, *rest = dotted.split(".")
    for draft in drafts:
        # A step may have dots in its name.
        if separator and dotted.startswith(f"{draft.name}."):
            apply_override(draft.settings, override.removeprefix(f"{draft.name}."), within=draft.name)
            return
    if separator and not rest and name in head.keys() | {"name"}:
        apply_override(head, override)
        return
    if not separator or not rest:
        raise RecipeError(f"override {override!r} must look like STEP.key=value")
    raise RecipeError(
        f"override {override!r}: no step is named {name!r}{hint(name, [draft.name for draft in drafts], 'steps')}"
    )


def refuse_old_layout(raw: Mapping[str, Any], where: str) -> None:
    """Say how to write a recipe of an earlier release, which has its stages at the top level."""
    old = [key for key in raw if key in STAGES]
    if old and "steps" not in raw:
        raise RecipeError(
            f"{where}: {old[0]!r} is at the top level, but a recipe now lists its stages under `steps:`, as "
            "`- queries: {…}`, `- candidates: {…}`, `- select: {…}`, `- fetch: {…}`, `- dedup: {…}`, `- shard: {…}`, "
            "`- card: {…}` (with oversample: `- redraw: {}` after dedup)"
        )


def hint(word: str, known: Sequence[str], label: str) -> str:
    """Return the end of a sentence about an unknown word: the known word that is like it, or all."""
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; {label}: {', '.join(known) or 'none'}"

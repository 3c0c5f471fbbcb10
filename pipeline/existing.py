"""Make the steps of commands on data that exists: datasets of ours, tars, tables with images, folders of images.

Where every input is a finished dataset of ours, its samples are copied as they are: their bytes, keys, texts, matched
queries and kept columns. What is to be decided by looking at pictures is decided first, by the stages of any build.
Other inputs go through these stages only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openwit.pipeline.rewriting.sources import Sources, is_dataset
from openwit.pipeline.rewriting.stages import CHOOSE, COPY, WHERE
from openwit.pipeline.step import Step
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.matching_paths import matching_paths
from openwit.schemas.common.settings import apply_override
from openwit.schemas.common.storage.remote import is_remote

if TYPE_CHECKING:
    from openwit.pipeline.stages.base import Stage

JUDGE = "judged-"
"""Beginning of the names of steps that decide about samples which are then copied."""
STEPS = ("candidates", "select", "fetch", "dedup", "shard")
_MOST_ASPECT = 65_536.0  # the highest that the setting takes


@dataclass(frozen=True)
class Existing:
    """What a command reads.

    Attributes:
        names: datasets, or files, folders and patterns as candidates take them.
        sources: the datasets, if all inputs are such.
    """

    names: tuple[str, ...]
    sources: Sources | None


@dataclass(frozen=True)
class Wanted:
    """What a command is to do.

    Attributes:
        command: its name, for its step in the recipe.
        where: conditions on columns.
        keep: list of uids.
        without: kept columns that are left out.
        duplicates: of several datasets: drop or keep.
        dedup: settings of the stage dedup; None if no image need be compared.
        candidates: settings of text filters and languages; empty for none.
        image: settings of image filters; empty for none.
        files: settings of the shards: samples, bytes, order, seed, keys.
        changes: settings of steps, as `--set STEP.KEY=VALUE` gives them.
    """

    command: str
    where: Sequence[str] = ()
    keep: str | None = None
    without: Sequence[str] = ()
    duplicates: str = "drop"
    dedup: Mapping[str, Any] | None = None
    candidates: Mapping[str, Any] = field(default_factory=dict)
    image: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def open_existing(inputs: Sequence[str], without: Sequence[str] = ()) -> Existing:
    """Find out what the inputs of a command are.

    Raises:
        RecipeError: none is named.
        DataError: a dataset is damaged, or is being changed.
    """
    names: list[str] = []
    for pattern in inputs:
        found = [] if is_remote(pattern) or Path(pattern).exists() else matching_paths(pattern, "the inputs")
        names += [path for path in found if is_dataset(path)] if found and all(map(is_dataset, found)) else [pattern]
    if not names:
        raise RecipeError("name at least one input: a dataset, tars, a table with images, or a folder of images")
    if not all(map(is_dataset, names)):
        return Existing(tuple(names), None)
    sources = Sources(names, without)
    sources.check()
    return Existing(tuple(sources.names), sources)


def steps_of(existing: Existing, wanted: Wanted) -> list[Step]:
    """Return the steps of a command, in their order.

    Raises:
        RecipeError: a setting is wrong, or belongs to other inputs.
    """
    unknown = next((step for step in wanted.changes if step not in (*STEPS, "copy")), None)
    if unknown is not None:
        raise RecipeError(f"--set {unknown}.…: no step has this name; steps: {', '.join((*STEPS, 'copy'))}")
    if existing.sources is None:
        return _through_the_chain(existing, wanted)
    taken = {name for manifest in existing.sources.manifests for name in manifest.recipe}
    judging = _judging(existing, wanted)
    choose = {
        "inputs": list(existing.names),
        "where": list(wanted.where),
        "keep": wanted.keep,
        "without": list(wanted.without),
        "duplicates": wanted.duplicates,
        "images": "judged" if judging else "all",
    }
    filled: dict[str, Sequence[str]] = {}
    if judging:
        filled = {"candidates": [judging[0].name]}
        if judging[-1].stage == "dedup":
            filled["survivors"] = [judging[-1].name]
    files = {**wanted.files, **wanted.changes.get("copy", {}), **wanted.changes.get("shard", {})}
    return [
        *judging,
        Step(CHOOSE, choose, _free(wanted.command, taken), filled),
        Step(COPY, files, _free("copy", taken)),
    ]


def judged_dedup(steps: Sequence[Step]) -> str | None:
    """Return the name of the step that compares images; None if there is none."""
    return next((step.name for step in steps if step.stage == "dedup"), None)


def _judging(existing: Existing, wanted: Wanted) -> list[Step]:
    """Return the steps that decide about samples by their texts or pictures; none if that is not asked for."""
    looks = wanted.dedup is not None or wanted.image
    if not looks and not wanted.candidates:
        return []
    read = [_step(wanted, "candidates", _candidates(existing, wanted), JUDGE)]
    if not looks:
        return read
    # The texts of duplicates stay where they are: what is copied is the sample as it is.
    dedup = {"duplicates": "keep"} if wanted.dedup is None else {**wanted.dedup, "merge_texts": False}
    return [
        *read,
        _step(wanted, "select", {"balance": "all"}, JUDGE),
        _step(wanted, "fetch", _fetch(wanted), JUDGE),
        _step(wanted, "dedup", dedup, JUDGE),
    ]


def _through_the_chain(existing: Existing, wanted: Wanted) -> list[Step]:
    if wanted.without:
        raise RecipeError(
            "--without leaves columns of datasets of ours out; of other inputs set candidates.columns.keep"
        )
    shard = {"order": "input", **wanted.files}
    steps = [
        _step(wanted, "candidates", _candidates(existing, wanted)),
        _step(wanted, "fetch", _fetch(wanted)),
        _step(wanted, "dedup", {"duplicates": "keep"} if wanted.dedup is None else wanted.dedup),
    ]
    if wanted.where or wanted.keep is not None:
        steps.append(Step(WHERE, {"where": list(wanted.where), "keep": wanted.keep}, wanted.command))
    shard = {key: value for key, value in shard.items() if value is not None}
    return [*steps, _step(wanted, "shard", shard)]


def _candidates(existing: Existing, wanted: Wanted) -> dict[str, Any]:
    plain: dict[str, Any] = {"texts_required": False, "filters": {"apply_to": "none"}}
    if existing.sources is None:
        plain["columns"] = {"keep": "all"}
    elif wanted.dedup is not None:
        plain["name_by_place"] = True  # names in place of URLs may be alike in two datasets
    return {"inputs": list(existing.names), **plain, **wanted.candidates}


def _fetch(wanted: Wanted) -> dict[str, Any]:
    """Return settings under which pictures that exist are not made smaller, and none is downloaded."""
    image = {"mode": "no", "min_size": 1, "max_aspect_ratio": _MOST_ASPECT, "keep_bytes": True}
    return {"web": False, "image": {**image, **wanted.image}}


def _step(wanted: Wanted, stage: str, settings: Mapping[str, Any], before: str = "") -> Step:
    merged = _merged(settings, wanted.changes.get(stage, {}))
    return Step(stage, merged, f"{before}{stage}")


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for key, value in changes.items():
        held = merged.get(key)
        merged[key] = _merged(held, value) if isinstance(held, Mapping) and isinstance(value, Mapping) else value
    return merged


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no step of the inputs has."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def read_changes(sets: Sequence[str], own: Stage[Any] | None = None) -> dict[str, dict[str, Any]]:
    """Read `STEP.KEY=VALUE`, or `KEY=VALUE` of a command's own stage.

    Raises:
        RecipeError: it is neither.
    """
    raw: dict[str, Any] = {}
    for text in sets:
        first = text.partition("=")[0].partition(".")[0]
        if first in (*STEPS, "copy") and "." in text.partition("=")[0]:
            apply_override(raw, text)
        elif own is not None and first in own.settings.model_fields:
            apply_override(raw, f"{own.name}.{text}")
        else:
            steps = ", ".join(f"{step}.KEY=VALUE" for step in STEPS)
            raise RecipeError(f"--set {text}: give one of {steps}")
    return raw

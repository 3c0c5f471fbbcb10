"""Register the stages of a build: one package each.

A stage is added by one line of `STAGES`; `wit build`, `wit explain`, the card, the commands and the documentation read
them from here. A stage of another package needs no line: a recipe names it by the dotted name of its class.
"""

from __future__ import annotations

import difflib
import functools
from typing import TYPE_CHECKING, Any

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.plugins import load_object

if TYPE_CHECKING:
    from openwit.pipeline.stages.base import Kind, Stage

STAGES = {
    "queries": "openwit.pipeline.stages.queries.Queries",
    "candidates": "openwit.pipeline.stages.candidates.Candidates",
    "select": "openwit.pipeline.stages.select.Select",
    "fetch": "openwit.pipeline.stages.fetch.Fetch",
    "dedup": "openwit.pipeline.stages.dedup.Dedup",
    "redraw": "openwit.pipeline.stages.redraw.Redraw",
    "shard": "openwit.pipeline.stages.shard.Shard",
    "card": "openwit.pipeline.stages.card.Card",
    "embed": "openwit.pipeline.stages.embed.Embed",
}
"""Short name to the dotted name of the class, in the order in which a build runs them."""


def stage_named(name: str) -> Stage[Any]:
    """Import a stage by its short name or by the dotted name of its class, `package.module.Class`.

    Raises:
        RecipeError: there is no such stage, or it cannot be imported.
    """
    if name in STAGES:
        return _load(STAGES[name])
    if "." in name or ":" in name:
        return _load(name)
    close = difflib.get_close_matches(name, STAGES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(STAGES)}, or package.module.Class"
    raise RecipeError(f"unknown stage {name!r}; {hint}")


def all_stages() -> list[Stage[Any]]:
    """Return the registered stages, in the order of a build."""
    return [stage_named(name) for name in STAGES]


def writers_of(kind: Kind) -> list[Stage[Any]]:
    """Return the registered stages that write a kind of data, except those that only add to it."""
    return [stage for stage in all_stages() if stage.output == kind and not stage.in_place]


@functools.cache
def _load(dotted: str) -> Stage[Any]:
    from openwit.pipeline.stages.base import Stage

    found = load_object(dotted, key="stage")
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise RecipeError(f"stage: {dotted!r} is not a subclass of openwit.pipeline.stages.base.Stage")
    stage: Stage[Any] = found()
    return stage

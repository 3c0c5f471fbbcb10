"""Find steps that a recipe leaves out and that can pass everything on: no balance, no deduplication."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from openwit.pipeline.stages import writers_of
from openwit.pipeline.stages.base import Kind, Stage
from openwit.schemas.common.settings import parse_settings


def neutral_chain(kind: Kind, written: Set[Kind], wanted: frozenset[Kind] = frozenset()) -> list[Stage[Any]] | None:
    """Return stages that make a kind of data from what is there, each with its neutral settings, in their order.

    Args:
        kind: what a later step takes.
        written: what earlier steps write.
        wanted: kinds for which a chain is being looked for.

    Returns:
        None if there is no such chain.
    """
    for stage in writers_of(kind):
        if stage.neutral is not None and kind not in wanted:
            before = _before(stage, written, wanted | {kind})
            if before is not None:
                return [*before, stage]
    return None


def neutral_settings(stage: Stage[Any]) -> Any:
    """Return the settings with which a stage passes everything on."""
    return parse_settings(dict(stage.neutral or {}), stage.settings, stage.name)


def _before(stage: Stage[Any], written: Set[Kind], wanted: frozenset[Kind]) -> list[Stage[Any]] | None:
    """Return the stages that must run before a neutral one; None if they cannot be found."""
    settings, chain, there = neutral_settings(stage), list[Stage[Any]](), set(written)
    for port in stage.inputs:
        if port.kind in there or not stage.needs(settings, port):
            continue
        found = neutral_chain(port.kind, there, wanted)
        if found is None:
            return None
        chain += found
        there |= {each.output for each in found}
    return chain

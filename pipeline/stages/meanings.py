"""Collect the meanings of drop reasons from the stages that define them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from openwit.pipeline.common.reasons import Reason, unique
from openwit.pipeline.stages import all_stages, stage_named
from openwit.pipeline.stages.base import Stage
from openwit.schemas.common.errors import RecipeError


def name_of(reason: str) -> str:
    """Return a reason in words."""
    return reason.replace("_", " ")


def meaning_of(reason: str, stage: Stage[Any] | None) -> str:
    """Return the meaning of a stage's reason, as a part of a sentence; empty if it is not known here.

    A stage whose own packages are not installed knows its drops but not their meanings.
    """
    try:
        known = () if stage is None else stage.reasons()
    except ImportError:
        return ""
    return next((entry.meaning for entry in known if entry == reason), "")


@functools.cache
def known_reasons() -> tuple[Reason, ...]:
    """Return every reason of the registered stages, of removing from a finished dataset, and of rewriting one."""
    from openwit.pipeline.dataset.removal_list import KINDS
    from openwit.pipeline.dataset.rewrite_reasons import REWRITE_REASONS

    return unique(*(stage.reasons() for stage in all_stages()), KINDS, REWRITE_REASONS)


def meanings(stages: Iterable[str] = ()) -> dict[str, str]:
    """Return the meanings of all reasons by reason.

    Args:
        stages: further stages by dotted name; one that cannot be imported here adds nothing.
    """
    found = list(known_reasons())
    for name in stages:
        try:
            found += stage_named(name).reasons()
        except RecipeError:
            continue
    return {reason: reason.meaning for reason in unique(found)}

"""Connect the steps of a recipe: which earlier steps fill the inputs of each, and what they must have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from openwit.pipeline.recipe_text import hint
from openwit.pipeline.stages import writers_of
from openwit.pipeline.stages.base import DATASET, Port
from openwit.schemas.common.errors import RecipeError

if TYPE_CHECKING:
    from openwit.pipeline.step import Step


def sources_of(steps: Sequence[Step], step: Step) -> dict[str, list[str]]:
    """Return names of earlier steps that fill each port of a step: those that `sources` names, else the nearest.

    Args:
        steps: of the recipe, in their order.
        step: one of them.

    Raises:
        RecipeError: a port is not filled, or what `sources` names does not fit.
    """
    at = next(n for n, other in enumerate(steps) if other is step)
    earlier = steps[:at]
    found: dict[str, list[str]] = {}
    for port in step.load().inputs:
        if port.name in step.sources:
            found[port.name] = [_named(steps, step, port, earlier, name) for name in step.sources[port.name]]
            continue
        if port.optional:
            continue
        fits = [other.name for other in earlier if other.load().output == port.kind]
        if not fits and not step.load().needs(step.settings, port):
            continue
        if not fits:
            raise RecipeError(f"step {step.name}: {_unfilled(port)}")
        found[port.name] = fits[-1:]
    return found


def share_settings(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with the settings that a step and those it reads must have in common (`Stage.shared`).

    A step that has no such setting passes it on to those that it reads.

    Raises:
        RecipeError: two steps have different values of one.
    """
    filled = list(steps)
    for step in steps:
        shared = step.load().shared(step.settings)
        for port, names in sources_of(steps, step).items():
            for name in names:
                _share(filled, step, name, shared.get(port, {}))
    return tuple(filled)


def _share(steps: list[Step], step: Step, name: str, values: Mapping[str, Any]) -> None:
    """Fill settings of the step `name`, which `step` reads, in `steps`."""
    at = next(n for n, other in enumerate(steps) if other.name == name)
    source, missing = steps[at], {}
    beyond = {key: value for key, value in values.items() if key not in type(source.settings).model_fields}
    for names in sources_of(steps, source).values() if beyond else ():
        for earlier in names:
            _share(steps, step, earlier, beyond)
    for key, value in values.items():
        if key in beyond:
            continue
        found = getattr(source.settings, key)
        if found is None:
            missing[key] = value
        elif found != value:
            raise RecipeError(
                f"step {step.name}: {key} is {value!r}, but {found!r} in step {source.name}, which it reads: "
                f"set {step.name}.{key} and {source.name}.{key} alike"
            )
    if missing:
        steps[at] = replace(source, settings=source.settings.model_copy(update=missing))


def check_order(steps: Sequence[Step]) -> None:
    """Check that every step has its inputs, fits those after it, and that one step writes the dataset.

    Raises:
        RecipeError: a step lacks an input or does not fit, or two write the dataset.
    """
    for n, step in enumerate(steps):
        sources_of(steps, step)
        problem = step.load().problem(step.settings, [later.load() for later in steps[n + 1 :]])
        if problem:
            raise RecipeError(f"step {step.name}: {problem}")
    writers = [step.name for step in steps if step.load().output == DATASET and not step.load().in_place]
    if len(writers) > 1:
        raise RecipeError(f"steps {' and '.join(writers)} both write the dataset: a recipe builds one")


def _named(steps: Sequence[Step], step: Step, port: Port, earlier: Sequence[Step], name: str) -> str:
    match = next((other for other in earlier if other.name == name), None)
    if match is None:
        if any(other.name == name for other in steps):
            raise RecipeError(f"step {step.name}: `from` names {name!r}, which does not run before it")
        known = hint(name, [other.name for other in earlier], "earlier steps")
        raise RecipeError(f"step {step.name}: `from` names {name!r}, but no step has this name{known}")
    if match.load().output != port.kind:
        raise RecipeError(
            f"step {step.name}: its input {port.name!r} takes {port.kind.name}, "
            f"but step {name!r} writes {match.load().output.name}"
        )
    return name


def _unfilled(port: Port) -> str:
    writers = [stage.name for stage in writers_of(port.kind)]
    remedy = f"; add `- {writers[0]}: {{…}}` before it" if writers else ""
    return (
        f"no earlier step writes {port.kind.name} ({port.kind.meaning}), which its input {port.name!r} takes{remedy}"
    )

"""Define a step of a recipe: a stage with its settings, and the earlier steps that fill its inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openwit.pipeline.recipe_text import hint, plain_settings
from openwit.pipeline.stages import stage_named
from openwit.pipeline.stages.base import Stage
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import parse_settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names of steps and datasets."""


@dataclass(frozen=True)
class Step:
    """One step of a recipe.

    Attributes:
        stage: short name of a stage, or the dotted name of its class.
        settings: of the stage: an object of its settings class, a mapping as in a recipe, or a word of
            `Stage.shorthands`; None for its defaults. Read back, it is an object of the class.
        name: of the step and of its folder; by default the stage's name.
        sources: port to the names of the earlier steps that fill it; other ports are filled by kind.

    Raises:
        RecipeError: the stage is unknown, or the settings or the name do not fit it.
    """

    stage: str
    settings: Any = None
    name: str = ""
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stage = self.load()
        if not self.name:
            object.__setattr__(self, "name", stage.name)
        if not NAME.fullmatch(self.name):
            raise RecipeError(f"{self.name!r} is not a name for a step: use letters, digits, '.', '_' and '-'")
        if self.settings is None or isinstance(self.settings, Mapping | str):
            raw = plain_settings(stage, self.settings, self.name)
            object.__setattr__(self, "settings", parse_settings(raw, stage.settings, f"step {self.name}"))
        if not isinstance(self.settings, stage.settings):
            raise RecipeError(
                f"step {self.name}: settings must be {stage.settings.__name__}, got {type(self.settings).__name__}"
            )
        ports = [port.name for port in stage.inputs]
        for port in self.sources:
            if port not in ports:
                raise RecipeError(
                    f"step {self.name}: stage {self.stage} has no input {port!r}{hint(port, ports, 'it has')}"
                )

    def load(self) -> Stage[Any]:
        """Return the stage that the step runs."""
        return stage_named(self.stage)

    def to_dict(self) -> dict[str, Any]:
        """Return the step as plain data, in the short form if that is complete."""
        settings = self.settings.model_dump(mode="json")
        if not self.further():
            return {self.stage: settings}
        return {**self.further(), "settings": settings}

    def further(self) -> dict[str, Any]:
        """Return what the short form does not hold: another name or stage, and named inputs."""
        if self.name == self.stage and not self.sources:
            return {}
        named = {port: steps[0] if len(steps) == 1 else list(steps) for port, steps in self.sources.items()}
        return {"stage": self.stage, "name": self.name, **({"from": named} if named else {})}

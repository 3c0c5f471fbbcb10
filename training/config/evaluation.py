"""The `eval` section: what is measured during training, by built-in evaluators or your own by dotted name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field

from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.settings import Settings
from openwit.training.config.duration import Interval
from openwit.training.config.limits import LARGEST_BATCH, MOST_SAMPLES
from openwit.training.config.measurements import (
    EVALUATOR_SETTINGS,
    EVERY,
    BuiltInEvaluator,
    RetrievalSettings,
    ZeroShotSettings,
)
from openwit.training.config.plugins import is_dotted


class CustomEvaluatorSettings(PluginSettings):
    """Your own evaluator by dotted name; keys other than `every` are passed to it as keyword arguments."""

    every: Interval | None = Field(None, description=EVERY)


EvaluatorSettings = BuiltInEvaluator | CustomEvaluatorSettings


def _by_name(value: object) -> object:
    """Choose the settings class by `name`."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        return value
    name = value.get("name")
    if is_dotted(name):
        return CustomEvaluatorSettings.model_validate(value)
    if not isinstance(name, str) or name not in EVALUATOR_SETTINGS:
        raise ValueError(
            f"name {name!r} must be one of {', '.join(EVALUATOR_SETTINGS)}, or the dotted name of your own evaluator"
        )
    return EVALUATOR_SETTINGS[name].model_validate(value)


AnyEvaluatorSettings = Annotated[
    EvaluatorSettings, pydantic.BeforeValidator(_by_name, json_schema_input_type=EvaluatorSettings | str)
]


class EvalSettings(Settings):
    """Evaluation during training.

    Either the short form (`split`, `dataset`, `limit` for retrieval, `zero_shot` for classification), or `evaluators`:
    a list of evaluators, each with its settings and its own interval.
    """

    dataset: Path | None = Field(None, description="dataset folder of the held-out split; null: the training data's")
    split: str | None = Field("val", description="held-out split for retrieval; null: no retrieval")
    every: Interval | None = Field(None, description="interval between two evaluations; null: once, at the end")
    limit: int | None = Field(
        1000, ge=2, le=MOST_SAMPLES, description="images for retrieval, the first ones; null: all"
    )
    batch_size: int = Field(256, ge=1, le=LARGEST_BATCH, description="images or texts embedded at once")
    zero_shot: ZeroShotSettings | None = Field(None, description="zero-shot classification; null: none")
    evaluators: list[AnyEvaluatorSettings] | None = Field(
        None,
        description=f"evaluators by name ({', '.join(EVALUATOR_SETTINGS)}) or dotted name, instead of the short form "
        "above; []: no evaluation",
    )

    @pydantic.model_validator(mode="after")
    def _check_forms(self) -> "EvalSettings":
        # By value, not by whether a key was given: checkpoints store every key.
        short = ("dataset", "split", "limit", "zero_shot")
        changed = [key for key in short if getattr(self, key) != type(self).model_fields[key].default]
        if self.evaluators is not None and changed:
            raise ValueError(f"with evaluators, put {' and '.join(changed)} into an entry of the list")
        return self

    def requested(self) -> list[EvaluatorSettings]:
        """Return the settings of all evaluators; the short form becomes one entry per evaluator."""
        if self.evaluators is not None:
            return list(self.evaluators)
        found: list[EvaluatorSettings] = []
        if self.split is not None:
            found.append(RetrievalSettings(dataset=self.dataset, split=self.split, limit=self.limit))
        if self.zero_shot is not None:
            found.append(self.zero_shot)
        return found

"""Make objectives: built-in ones by name, your own by dotted name."""

from typing import Any

from torch import nn

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.plugins import PluginSettings, load_callable, one_line
from openwit.training.config.model import CustomModelSettings, ModelSettings
from openwit.training.config.objective import BuiltInObjective
from openwit.training.objectives.bag_of_words import BagOfWordsObjective
from openwit.training.objectives.base import Objective
from openwit.training.objectives.captioning import CaptioningObjective
from openwit.training.objectives.contrastive import ContrastiveObjective
from openwit.training.objectives.contrastive_captioning import ContrastiveCaptioningObjective
from openwit.training.objectives.sigmoid import SigmoidObjective

OBJECTIVES: dict[str, Any] = {
    "contrastive": ContrastiveObjective,
    "sigmoid": SigmoidObjective,
    "bag_of_words": BagOfWordsObjective,
    "captioning": CaptioningObjective,
    "contrastive_captioning": ContrastiveCaptioningObjective,
}

# Members of `Objective` that an objective of your own must have.
_MEMBERS = (
    *("embeds", "separable", "max_logit_scale", "guess_loss", "build_model"),
    *("num_terms", "embed", "loss", "after_step", "score"),
)


def make_objective(settings: BuiltInObjective | PluginSettings) -> Objective:
    """Return the objective that the settings name.

    Raises:
        RecipeError: an objective given by dotted name cannot be loaded or made, or lacks a member of `Objective`.
    """
    if not isinstance(settings, PluginSettings):
        objective: Objective = OBJECTIVES[settings.name](**settings.model_dump(exclude={"name"}))
        return objective
    key = "objective.name"
    factory = load_callable(settings, key=key)
    try:
        made: Objective = factory(**settings.settings)
    except Exception as error:
        raise RecipeError(f"{key}: {settings.name!r} cannot be made: {one_line(error)}") from error
    missing = [name for name in _MEMBERS if not hasattr(made, name)]
    if missing:
        raise RecipeError(
            f"{key}: {settings.name!r} has no {missing[0]}: derive it from "
            "openwit.training.objectives.base.EmbeddingObjective and implement loss"
        )
    return made


def make_model(model: ModelSettings | CustomModelSettings, objective: BuiltInObjective | PluginSettings) -> nn.Module:
    """Return a new model of the architecture, with the parts that the objective trains; it has `inputs`.

    Initial weights come from torch's generator.

    Raises:
        RecipeError: see `make_objective` and `Objective.build_model`.
    """
    return make_objective(objective).build_model(model)

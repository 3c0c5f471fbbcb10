"""From settings to an objective and the model it trains."""

import math

from torch import nn

from openwit.training.config.train import ModelSettings, ObjectiveSettings
from openwit.training.models import clip
from openwit.training.models.bag_of_words import BagOfWords
from openwit.training.models.captioner import Captioner
from openwit.training.models.clip import Clip
from openwit.training.objectives import sigmoid
from openwit.training.objectives.bag_of_words import BagOfWordsObjective
from openwit.training.objectives.base import Objective
from openwit.training.objectives.captioning import CaptioningObjective
from openwit.training.objectives.contrastive import ContrastiveObjective
from openwit.training.objectives.sigmoid import SigmoidObjective


def make_objective(settings: ObjectiveSettings) -> Objective:
    """The objective that the settings name."""
    match settings.name:
        case "contrastive":
            return ContrastiveObjective(settings.positives)
        case "sigmoid":
            return SigmoidObjective()
        case "bag_of_words":
            return BagOfWordsObjective()
        case "captioning":
            return CaptioningObjective()


def make_model(model: ModelSettings, objective: ObjectiveSettings) -> nn.Module:
    """A new model of the architecture, with the parts that the objective trains; each has `spec` and `visual`.

    Clip for contrastive and sigmoid (`logit_bias` only for the latter), `BagOfWords`, `Captioner`. Initial weights
    come from torch's generator.
    """
    spec = model.resolved()
    match objective.name:
        case "contrastive":
            scale = _logarithm(objective.logit_scale, clip.INITIAL_LOGIT_SCALE)
            return Clip(spec, model.patch_dropout, scale)
        case "sigmoid":
            scale = _logarithm(objective.logit_scale, sigmoid.INITIAL_LOGIT_SCALE)
            bias = sigmoid.INITIAL_LOGIT_BIAS if objective.logit_bias is None else objective.logit_bias
            return Clip(spec, model.patch_dropout, scale, bias)
        case "bag_of_words":
            return BagOfWords(spec, model.patch_dropout)
        case "captioning":
            return Captioner(spec, model.patch_dropout, objective.prefix_tokens)


def _logarithm(multiplier: float | None, default: float) -> float:
    return default if multiplier is None else math.log(multiplier)

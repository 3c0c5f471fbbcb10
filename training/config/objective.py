"""The `objective` section: one settings class per built-in objective, or your own objective by dotted name."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.settings import Settings
from openwit.training.config.limits import MOST_LAYERS
from openwit.training.config.plugins import is_dotted


class ContrastiveSettings(Settings):
    """Symmetric cross-entropy over the batch (the paper's objective)."""

    name: Literal["contrastive"] = Field("contrastive", description="cross-entropy over all pairs of a batch")
    positives: Literal["pair", "same_text"] = Field(
        "pair",
        description="pair: only an image's own text is positive (the paper); same_text: every equal text of the batch "
        "is positive too",
    )
    logit_scale: float | None = Field(
        None, gt=0, le=1e4, description="initial factor of the similarities; null: 1/0.07; kept at 100 or less"
    )

    @pydantic.model_validator(mode="after")
    def _check_scale(self) -> "ContrastiveSettings":
        if self.logit_scale is not None and self.logit_scale > 100:
            raise ValueError(f"logit_scale {self.logit_scale:g} is above 100, at which {self.name} keeps it")
        return self


class SigmoidSettings(Settings):
    """SigLIP: a binary classification of each pair."""

    name: Literal["sigmoid"] = Field("sigmoid", description="SigLIP's binary classification of every pair")
    logit_scale: float | None = Field(None, gt=0, le=1e4, description="initial factor of the similarities; null: 10")
    logit_bias: float | None = Field(
        None, ge=-1e4, le=1e4, description="initial bias of the scaled similarities; null: -10"
    )


class BagOfWordsSettings(Settings):
    """Predict the words of the caption from the image."""

    name: Literal["bag_of_words"] = Field("bag_of_words", description="which words the caption contains")


class CaptioningSettings(Settings):
    """Predict the caption from the image with a language model."""

    name: Literal["captioning"] = Field("captioning", description="the caption, word by word")
    prefix_tokens: int = Field(4, ge=1, le=1024, description="tokens that an image becomes (the paper: 4)")


class ContrastiveCaptioningSettings(ContrastiveSettings):
    """CoCa: contrast and caption at once."""

    name: Literal["contrastive_captioning"] = Field(  # type: ignore[assignment]
        "contrastive_captioning", description="CoCa's weighted sum of the contrastive and the captioning loss"
    )
    contrastive_weight: float = Field(1.0, gt=0, le=1000, description="factor of the contrastive loss (the paper: 1)")
    captioning_weight: float = Field(2.0, gt=0, le=1000, description="factor of the captioning loss (the paper: 2)")
    image_pool: Literal["attention", "model"] = Field(
        "attention",
        description="what an image's embedding is pooled by: attention to its patches (the paper); model: as the "
        "architecture has it, such as CLIP's class token, so that model.init.parts: image takes CLIP's weights",
    )
    image_tokens: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="tokens into which an image is pooled for the captions; null: 256 (the paper), or as many as it "
        "has patches if these are fewer",
    )
    multimodal_layers: int | None = Field(
        None,
        ge=1,
        le=MOST_LAYERS,
        description="blocks of the decoder that attends to the image; null: as many as the text tower has",
    )


BuiltInObjective = (
    ContrastiveSettings | SigmoidSettings | BagOfWordsSettings | CaptioningSettings | ContrastiveCaptioningSettings
)

BUILT_IN: dict[str, type[BuiltInObjective]] = {
    "contrastive": ContrastiveSettings,
    "sigmoid": SigmoidSettings,
    "bag_of_words": BagOfWordsSettings,
    "captioning": CaptioningSettings,
    "contrastive_captioning": ContrastiveCaptioningSettings,
}


def _by_name(value: object) -> object:
    """Choose the settings class by `name`."""
    if not isinstance(value, Mapping):
        return value
    name = value.get("name", "contrastive")
    if is_dotted(name):
        return PluginSettings.model_validate(value)
    if name not in BUILT_IN:
        raise ValueError(
            f"name {name!r} must be one of {', '.join(BUILT_IN)}, or the dotted name of your own objective"
        )
    settings = BUILT_IN[name]
    return settings.model_validate({key: given for key, given in value.items() if not _is_foreign(name, key, given)})


def _is_foreign(name: str, key: str, given: object) -> bool:
    """Return whether a key belongs to other objectives only and has its default, as in checkpoints of version 0.1.0.

    Raises:
        ValueError: the key belongs to other objectives, but has a value.
    """
    owners = {owner: settings for owner, settings in BUILT_IN.items() if key in settings.model_fields}
    if name in owners or not owners:
        return False
    default = next(iter(owners.values())).model_fields[key].default
    if given != default:
        *others, last = owners
        listed = f"{', '.join(others)} and {last}" if others else last
        raise ValueError(f"{key} is a setting of {listed}, not of {name}: leave it out")
    return True


ObjectiveSettings = Annotated[BuiltInObjective | PluginSettings, pydantic.BeforeValidator(_by_name)]

_ADAPTER: pydantic.TypeAdapter[BuiltInObjective | PluginSettings] = pydantic.TypeAdapter(ObjectiveSettings)


def objective_settings(name: str = "contrastive", **settings: Any) -> BuiltInObjective | PluginSettings:
    """Return the settings of an objective.

    Args:
        name: built-in or dotted name.
        settings: keys of that objective.

    Raises:
        pydantic.ValidationError: there is no such objective or key, or a value is wrong.

    Example:
        >>> objective_settings("sigmoid", logit_bias=-5.0)
    """
    return _ADAPTER.validate_python({"name": name, **settings})

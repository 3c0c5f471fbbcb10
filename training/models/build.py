"""Build the model of a configuration: a built-in architecture, or your own by dotted name."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.schemas.common.errors import PluginError, RecipeError
from openwit.schemas.common.plugins import check_call, load_object, one_line
from openwit.schemas.common.settings import parse_settings
from openwit.training.config.images import ImageSpec
from openwit.training.config.model import CustomModelSettings, ModelSettings
from openwit.training.config.zoo import ClipSpec, InputSpec
from openwit.training.models.clip import INITIAL_LOGIT_SCALE, Clip
from openwit.training.tokenizer.file_tokenizer import is_tokenizer_file


class CustomTowers(nn.Module):
    """Your own model as this package trains it: embeddings normalised to unit length, with a learned temperature.

    Args:
        towers: has `encode_image(images)` and `encode_text(tokens)`, each (B, ...) to (B, D).
        inputs: size of the images and texts that it takes.
        init_logit_scale, init_logit_bias: see `Clip`.
    """

    def __init__(
        self,
        towers: nn.Module,
        inputs: InputSpec,
        *,
        init_logit_scale: float = INITIAL_LOGIT_SCALE,
        init_logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self._width = 0  # of the embeddings, once it is known
        self.towers = towers
        self.logit_scale = nn.Parameter(torch.tensor(init_logit_scale))
        self.logit_bias = None if init_logit_bias is None else nn.Parameter(torch.tensor(init_logit_bias))

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed images: (B, 3, H, W) float32, normalised, to (B, D) float32 of unit length."""
        towers: Any = self.towers
        return F.normalize(self._checked("encode_image", towers.encode_image(images), images).float(), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embed texts: (B, L) int64 to (B, D) float32 of unit length; padded with zeros after the end of text."""
        towers: Any = self.towers
        return F.normalize(self._checked("encode_text", towers.encode_text(tokens), tokens).float(), dim=-1)

    def _checked(self, method: str, found: Any, given: Tensor) -> Tensor:
        """Refuse what is no matrix of one row per input, and towers whose embeddings differ in size.

        Raises:
            PluginError: the method returned something else.
        """
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(given):
            what = f"{tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise PluginError(
                f"model.name: {method} returned {what} for {len(given)} inputs, not (inputs, dimensions)"
            )
        self._width = self._width or found.shape[1]
        if found.shape[1] != self._width:
            raise PluginError(
                f"model.name: {method} returned {found.shape[1]} dimensions, the other method {self._width}: images "
                "and texts are compared, so both need the same number"
            )
        return found


def build_two_towers(
    settings: ModelSettings | CustomModelSettings,
    *,
    init_logit_scale: float = INITIAL_LOGIT_SCALE,
    init_logit_bias: float | None = None,
) -> Clip | CustomTowers:
    """Return a new model with `encode_image` and `encode_text`; initial weights are drawn from torch's generator.

    Raises:
        RecipeError: a model given by dotted name cannot be loaded or built, or has no such methods.
    """
    if isinstance(settings, ModelSettings):
        return Clip(settings.resolved(), settings.patch_dropout, init_logit_scale, init_logit_bias)
    towers = _custom_towers(settings)
    return CustomTowers(towers, settings.inputs, init_logit_scale=init_logit_scale, init_logit_bias=init_logit_bias)


def described(settings: CustomModelSettings) -> CustomModelSettings:
    """Return settings with what the callable's `describe` says, if it has one, where they leave it out.

    `describe` takes the settings' other keys as keyword arguments and returns a mapping with any of `image_size`,
    `context_length`, `vocabulary`, `images` (as in `ImageSpec`) and `clean`.

    Raises:
        RecipeError: the callable cannot be loaded, or describes what is not valid.
    """
    factory = load_object(settings.name, key="model.name")
    describe = getattr(factory, "describe", None)
    if describe is None:
        return settings
    try:
        found = dict(describe(**settings.settings))
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(f"model.name: {settings.name!r} cannot be described: {one_line(error)}") from error
    if not is_tokenizer_file(settings.tokenizer):
        found.pop("clean", None)
    if "images" in found:
        found["images"] = parse_settings(found["images"], ImageSpec, f"images of {settings.name}")
    missing = {key: value for key, value in found.items() if key not in settings.model_fields_set}
    return settings.model_copy(update=missing)


def built_in_spec(settings: ModelSettings | CustomModelSettings, *, objective: str) -> tuple[ClipSpec, float]:
    """Return the architecture and the patch dropout for an objective that needs a built-in model.

    Raises:
        RecipeError: the model is given by dotted name.
    """
    if isinstance(settings, CustomModelSettings):
        raise RecipeError(f"objective {objective} builds its own model, so model.name cannot be {settings.name!r}")
    return settings.resolved(), settings.patch_dropout


def _custom_towers(settings: CustomModelSettings) -> nn.Module:
    key = "model.name"
    factory = load_object(settings.name, key=key)
    keywords = settings.settings
    given = {**settings.inputs.model_dump(exclude={"images"}), "tokenizer": settings.tokenizer}
    for name, value in given.items():
        if callable(factory) and name in _parameters(factory):
            keywords.setdefault(name, value)
    check_call(factory, keywords, name=settings.name, key=key)
    try:
        towers = factory(**keywords)
    except Exception as error:
        raise RecipeError(f"{key}: {settings.name!r} cannot be built: {one_line(error)}") from error
    missing = [name for name in ("encode_image", "encode_text") if not callable(getattr(towers, name, None))]
    if not isinstance(towers, nn.Module) or missing:
        wanted = "an nn.Module with encode_image and encode_text"
        raise RecipeError(f"{key}: {settings.name!r} returned a {type(towers).__name__}, which is not {wanted}")
    return towers


def _parameters(factory: Any) -> set[str]:
    try:
        return set(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return set()

"""Define how a model wants its images: statistics, filter and fit; shared by settings, weights and exports."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeVar

import pydantic

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import Settings

Channels = tuple[float, float, float]
Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest"]
Resize = Literal["shortest", "squash", "longest"]

# Statistics of OpenAI's training set (openai/CLIP, clip.py); the order is red, green, blue.
OPENAI_MEAN: Channels = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Channels = (0.26862954, 0.26130258, 0.27577711)

_MEAN = "of each channel (red, green, blue), subtracted from pixels of 0 to 1"
_STD = "of each channel, by which they are then divided"
_INTERPOLATION = "filter of the resizing, antialiased as Pillow's; the fast decoder has the bicubic one only"
_RESIZE = (
    "shortest: the short side is resized, and a square cropped; squash: the whole image becomes a square; longest: "
    "the long side is resized, and black put around"
)
# Pillow's numbers of filters, as Hugging Face's files have them.
_OF_PILLOW: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


class _Statistics(Protocol):
    @property
    def mean(self) -> Channels | None: ...
    @property
    def std(self) -> Channels | None: ...


S = TypeVar("S", bound=_Statistics)


def _checked(spec: S) -> S:
    if any(not 0 <= value <= 1 for value in spec.mean or ()):
        raise ValueError("mean is of pixels between 0 and 1")
    if any(not 0 < value <= 1000 for value in spec.std or ()):
        raise ValueError("std must be above 0, as pixels are divided by it, and at most 1000")
    return spec


class ImageSpec(Settings):
    """Preprocessing of images; the defaults are OpenAI's."""

    mean: Channels = pydantic.Field(OPENAI_MEAN, description=_MEAN)
    std: Channels = pydantic.Field(OPENAI_STD, description=_STD)
    interpolation: Interpolation = pydantic.Field("bicubic", description=_INTERPOLATION)
    resize: Resize = pydantic.Field("shortest", description=_RESIZE)

    @pydantic.model_validator(mode="after")
    def _divisible(self) -> "ImageSpec":
        return _checked(self)


OPENAI_IMAGES = ImageSpec()
"""Preprocessing of OpenAI's models, and the default."""
SIGLIP_IMAGES = ImageSpec(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize="squash")
"""Preprocessing of SigLIP's published models."""


class ImageSettings(Settings):
    """Preprocessing of images that differs from what the architecture has; null: as it has it."""

    mean: Channels | None = pydantic.Field(None, description=_MEAN)
    std: Channels | None = pydantic.Field(None, description=_STD)
    interpolation: Interpolation | None = pydantic.Field(None, description=_INTERPOLATION)
    resize: Resize | None = pydantic.Field(None, description=_RESIZE)

    @pydantic.model_validator(mode="after")
    def _divisible(self) -> "ImageSettings":
        return _checked(self)

    def over(self, spec: ImageSpec) -> ImageSpec:
        """Return a specification with what is given here in place of its own."""
        given = {name: value for name, value in self if value is not None}
        return spec.model_copy(update=given)


def of_open_clip(config: Mapping[str, Any]) -> ImageSpec:
    """Return what open_clip's `preprocess_cfg` says; what it leaves out is open_clip's default.

    Raises:
        RecipeError: it asks for what we do not have.
    """
    known = {"mean", "std", "interpolation", "resize_mode"}
    given = {name: value for name, value in config.items() if name in known and value is not None}
    if "resize_mode" in given:
        given["resize"] = given.pop("resize_mode")
    if config.get("fill_color") and given.get("resize") == "longest":
        raise RecipeError("preprocess_cfg puts a colour around the image, here only black can be")
    return _parsed(given, "preprocess_cfg")


def of_hugging_face(config: Mapping[str, Any]) -> ImageSpec:
    """Return what Hugging Face's `preprocessor_config.json` says.

    Raises:
        RecipeError: it asks for what we do not have.
    """
    given: dict[str, Any] = {}
    if config.get("do_normalize", True):
        given |= {name: config[f"image_{name}"] for name in ("mean", "std") if f"image_{name}" in config}
    else:
        given |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if (number := config.get("resample")) is not None:
        if number not in _OF_PILLOW:
            raise RecipeError(f"preprocessor_config.json names filter {number}, known are {sorted(_OF_PILLOW)}")
        given["interpolation"] = _OF_PILLOW[number]
    size = config.get("size")
    given["resize"] = "squash" if isinstance(size, Mapping) and "height" in size else "shortest"
    return _parsed(given, "preprocessor_config.json")


def pillow_number(spec: ImageSpec) -> int:
    """Return Pillow's number of the filter."""
    return next(number for number, name in _OF_PILLOW.items() if name == spec.interpolation)


def _parsed(given: Mapping[str, Any], where: str) -> ImageSpec:
    try:
        return ImageSpec.model_validate(given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RecipeError(f"{where}: {key}: {first['msg']}") from error

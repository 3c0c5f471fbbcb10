"""Change the colours of a cropped image, or what your own function does; drawn by (seed, epoch, key) like the crop.

The changes of colour are torchvision's on PIL images, factor for factor: brightness, contrast, saturation and hue, in
an order that is drawn too.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from inspect import isclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.plugins import PluginSettings, load_callable, load_object, one_line
from openwit.training.config.data import ColourJitter, DataSettings

Change = Callable[[Image.Image, random.Random], Any]
"""(image, generator) -> image, or bytes of (size, size, 3)."""


def finish_of(settings: DataSettings) -> Callable[[NDArray[np.uint8], random.Random], NDArray[np.uint8]] | None:
    """Return what is done to each square after the crop; None for nothing, which is the paper's.

    Raises:
        RecipeError: a function of yours cannot be loaded.
    """
    changes: list[Change] = []
    if settings.colour_jitter is not None:
        changes.append(partial(jittered, settings.colour_jitter))
    if settings.grayscale:
        changes.append(partial(_maybe_grey, settings.grayscale))
    changes += [_own(plugin, f"data.augment.{number}") for number, plugin in enumerate(settings.augment or ())]
    return partial(_finished, changes) if changes else None


def _finished(changes: Sequence[Change], square: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    image = Image.fromarray(square)
    for change in changes:
        found = change(image, rng)
        image = found if isinstance(found, Image.Image) else Image.fromarray(found)
    return np.asarray(image)


def jittered(settings: ColourJitter, image: Image.Image, rng: random.Random) -> Image.Image:
    """Return an image with its colours changed at random."""
    if settings.probability < 1 and rng.random() >= settings.probability:
        return image
    changes: list[tuple[Callable[[Image.Image, float], Image.Image], float]] = []
    strengths = {_bright: settings.brightness, _contrast: settings.contrast, _colour: settings.saturation}
    for each, strength in strengths.items():
        if strength:
            changes.append((each, _between(rng, max(0.0, 1 - strength), 1 + strength)))
    if settings.hue:
        changes.append((turned_hue, _between(rng, -settings.hue, settings.hue)))
    for place in range(len(changes) - 1, 0, -1):  # Random.shuffle may draw otherwise in another version of Python
        other = min(place, int(rng.random() * (place + 1)))
        changes[place], changes[other] = changes[other], changes[place]
    for change, factor in changes:
        image = change(image, factor)
    return image


def _bright(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _contrast(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def _colour(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Color(image).enhance(factor)


def turned_hue(image: Image.Image, turn: float) -> Image.Image:
    """Return an image with its hues turned by a share of the circle, -0.5 to 0.5."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(int(turn * 255) % 256)  # modulo 256, as wanted
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def _maybe_grey(share: float, image: Image.Image, rng: random.Random) -> Image.Image:
    return image.convert("L").convert("RGB") if rng.random() < share else image


def _own(plugin: PluginSettings, key: str) -> Change:
    """Load your own change: a function of image and generator, or a class that makes one of its settings."""
    if isclass(load_object(plugin.name, key=key)):
        made = load_callable(plugin, key=key)(**plugin.settings)
    else:
        made = partial(load_callable(plugin, key=key, positional=2), **plugin.settings)

    def change(image: Image.Image, rng: random.Random) -> Any:
        try:
            found = made(image, rng)
        except Exception as error:
            raise RecipeError(f"{key}: {plugin.name!r} failed: {one_line(error)}") from error
        if isinstance(found, Image.Image):
            is_fit = (found.size, found.mode) == (image.size, "RGB")
        else:
            is_fit = isinstance(found, np.ndarray) and (found.dtype, found.shape) == (np.uint8, (*image.size, 3))
        if not is_fit:
            wanted = f"an RGB image of {image.width} x {image.height}, or its bytes (H, W, 3)"
            raise RecipeError(f"{key}: {plugin.name!r} returned something else than {wanted}")
        return found

    return change


def _between(rng: random.Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()

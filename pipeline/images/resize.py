"""Compute target sizes of the resize modes as img2dataset does; pad to a canvas; make thumbnails."""

import io
from dataclasses import dataclass

from PIL import Image

from openwit.pipeline.images.resample import Box
from openwit.pipeline.images.settings import ImageSettings, ResizeMode
from openwit.schemas.images.colour import resamplable, to_srgb
from openwit.schemas.images.opening import TRANSPOSITIONS, load_image, open_image


@dataclass(frozen=True, slots=True)
class Plan:
    """Define how an image of a known size is cropped, resized and padded.

    Attributes:
        box: the part of the source that is resampled: left, top, right, bottom in pixels.
        resized: (width, height) of that part in the result.
        canvas: (width, height) of the result; larger than `resized` if padded with white.
    """

    box: Box
    resized: tuple[int, int]
    canvas: tuple[int, int]

    def changes(self, width: int, height: int) -> bool:
        """Return whether the result differs from a source of this size."""
        return self.resized != (width, height) or self.canvas != (width, height)

    def transposed(self) -> "Plan":
        """Return the same plan for a source with swapped axes."""
        left, top, right, bottom = self.box
        return Plan((top, left, bottom, right), self.resized[::-1], self.canvas[::-1])


def plan_resize(width: int, height: int, settings: ImageSettings) -> Plan:
    """Plan what a resize mode does to an image of width x height pixels (after orientation)."""
    whole: Box = (0, 0, width, height)
    unchanged = Plan(whole, (width, height), (width, height))
    if settings.mode is ResizeMode.NO:
        return unchanged
    by_short_side = settings.mode in (ResizeMode.KEEP_RATIO, ResizeMode.CENTER_CROP)
    side = min(width, height) if by_short_side else max(width, height)
    if settings.only_if_bigger and side <= settings.size:
        return unchanged
    scale = settings.size / side
    resized = max(1, round(width * scale)), max(1, round(height * scale))
    if settings.mode is ResizeMode.BORDER:
        return Plan(whole, resized, (settings.size, settings.size))
    if settings.mode is ResizeMode.CENTER_CROP:
        return Plan(_middle(width, height, resized, settings.size), (settings.size,) * 2, (settings.size,) * 2)
    return Plan(whole, resized, resized)


def _middle(width: int, height: int, resized: tuple[int, int], size: int) -> Box:
    """Return the part of the source that becomes the middle size x size pixels of the resized image."""
    left, top = (resized[0] - size) // 2, (resized[1] - size) // 2
    x, y = width / resized[0], height / resized[1]
    return left * x, top * y, min(width, (left + size) * x), min(height, (top + size) * y)


def pad(image: Image.Image, canvas: tuple[int, int]) -> Image.Image:
    """Centre an RGB image on a white canvas; odd pixels go to the right and bottom."""
    if image.size == canvas:
        return image
    padded = Image.new("RGB", canvas, (255, 255, 255))
    padded.paste(image, ((canvas[0] - image.width) // 2, (canvas[1] - image.height) // 2))
    return padded


def thumbnail(body: bytes, side: int = 160, *, quality: int = 80) -> bytes:
    """Return an upright JPEG of an image file whose longer side is at most `side` pixels."""
    with open_image(body) as opened:
        image = opened.image
        if opened.format == "JPEG":
            image.thumbnail((side, side))
        else:
            load_image(image)
            image = resamplable(image)
            image.thumbnail((side, side))
        out = io.BytesIO()
        picture = to_srgb(resamplable(image), opened.icc_profile)
        transposition = TRANSPOSITIONS.get(opened.orientation)
        picture = picture if transposition is None else picture.transpose(transposition)
        picture.save(out, "JPEG", quality=quality)
    return out.getvalue()

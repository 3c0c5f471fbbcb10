"""Blur boxes of a picture, as img2dataset and ImageNet's face obfuscation do.

Each box grows by a tenth of its longer side on each side; the picture is blurred with a standard deviation of a tenth
of the longest side of all boxes; and the mask of the boxes is blurred too, so that no edge of a box is seen.
"""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFilter

from openwit.pipeline.images.resample import Box

Boxes = Sequence[Sequence[float]]
"""Boxes, each left, top, right, bottom as fractions of the picture as stored, before EXIF orientation."""

_MARGIN = _SIGMA = 0.1


def blurred(image: Image.Image, boxes: Boxes, full: tuple[int, int], part: Box) -> Image.Image:
    """Return an RGB image in which boxes are blurred.

    Args:
        image: the resampled part of a picture.
        boxes: fractions of the whole picture.
        full: (width, height) of the whole picture.
        part: the part that the image shows: left, top, right, bottom in pixels of the whole.
    """
    across, down = image.width / (part[2] - part[0]), image.height / (part[3] - part[1])
    mask = Image.new("L", image.size, 0)
    draw, longest = ImageDraw.Draw(mask), 0.0
    for left, top, right, bottom in boxes:
        sides = (left * full[0] - part[0]) * across, (top * full[1] - part[1]) * down
        ends = (right * full[0] - part[0]) * across, (bottom * full[1] - part[1]) * down
        longer = max(ends[0] - sides[0], ends[1] - sides[1])
        longest = max(longest, longer)
        margin = _MARGIN * longer
        low = math.floor(sides[0] - margin), math.floor(sides[1] - margin)
        high = math.ceil(ends[0] + margin) - 1, math.ceil(ends[1] + margin) - 1
        if high[0] >= low[0] and high[1] >= low[1]:
            draw.rectangle((low, high), fill=255)
    if mask.getbbox() is None:
        return image
    blur = ImageFilter.GaussianBlur(_SIGMA * longest)
    return Image.composite(image.filter(blur), image, mask.filter(blur))

"""Hash the variants in which an evaluation image may appear in the dataset.

A perceptual hash tolerates re-encoding, resizing and changes of brightness, but only crops of about two per cent, and
no mirroring. So an evaluation image is hashed as it is and cropped, squared, widened and mirrored; a dataset image is
hashed once.

If the dataset image is a crop of the evaluation image, all its pixels are known: these variants are exact. If the
evaluation image is a crop of the dataset image, the pixels outside are unknown; they are replaced by repeated edge
pixels, which finds most images from which a small crop was taken. docs/duplicates.md has the measurements.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openwit.pipeline.images.phash import SIDE, is_low_information, phash_batch, phash_pair_batch
from openwit.pipeline.images.settings import ResizeMode

SAME = "same"
WHOLE = "whole"
"""The uncropped image without border, where the dataset's images have a border or are squares."""
MIRRORED = "_mirrored"
"""Suffix of the names of mirrored variants."""

PLAIN_DEVIATION = 3.0
"""Grey levels: if a 32 x 32 thumbnail deviates less from its mean, half of an image's own copies get another hash."""

Box = tuple[float, float, float, float]

# Short side of the grey image that the variants are cut from: enough for 32 pixels of any of them.
_WORKING_SIDE = 128
# Evaluation sets are often cropped to 224 of 256 pixels.
_SQUARE_SHARE = 224 / 256
_CENTRES, _CORNERS, _SIDES = (0.03, 0.06, 0.10), (0.04, 0.07, 0.10), (0.04, 0.07, 0.10)
_WIDER_CENTRES, _WIDER_ENDS = (0.03, 0.06, 0.10), 0.05


def grey_of(picture: Image.Image) -> Image.Image:
    """Return the grey image that variants are cut from, with a short side of 128 pixels (enlarged if smaller)."""
    grey = picture if picture.mode == "L" else picture.convert("L")
    scale = _WORKING_SIDE / min(grey.size)
    size = max(1, round(grey.width * scale)), max(1, round(grey.height * scale))
    filter_ = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return grey.resize(size, filter_) if size != grey.size else grey


def is_plain(grey: Image.Image) -> bool:
    """Return whether the hash of an image identifies nothing: one colour, noise, a gradient."""
    thumbnail = _cut(grey, (0, 0, 0, 0))
    return bool(thumbnail.std() < PLAIN_DEVIATION or is_low_information(phash_batch(thumbnail[np.newaxis]))[0])


def variant_hashes(grey: Image.Image, mode: ResizeMode = ResizeMode.KEEP_RATIO) -> list[tuple[str, int]]:
    """Return name and hash of every variant of an image except `same`, each hash once, without those that many share.

    Args:
        grey: from `grey_of`.
        mode: how the dataset's images were resized: its borders are drawn around the variants, its squares are
            cropped from them.
    """
    boxes = variant_boxes(*grey.size)
    cuts = np.stack([_cut(grey, box, mode) for _, box, _ in boxes])
    hashes, mirrored = phash_pair_batch(cuts)
    forms = list(zip((name for name, _, _ in boxes), hashes, strict=True))
    forms += [(name + MIRRORED, value) for (name, _, also), value in zip(boxes, mirrored, strict=True) if also]
    useless = is_low_information(np.array([value for _, value in forms]))
    found: dict[int, str] = {}
    for (name, value), left_out in zip(forms, useless, strict=True):
        if not left_out:
            found.setdefault(int(value), name)
    return [(name, value) for value, name in found.items() if name != SAME]


@lru_cache(maxsize=256)
def variant_boxes(width: int, height: int) -> tuple[tuple[str, Box, bool], ...]:
    """Return the variants of an image of this shape: name; crop at left, top, right, bottom; whether mirrored too.

    Crops are fractions of width and height; negative ones widen the image.
    """
    forms: list[tuple[str, Box, bool]] = [(SAME, (0, 0, 0, 0), True)]
    forms += [(f"centre_{100 * p:.0f}", (p / 2,) * 4, True) for p in _CENTRES]
    for p in _CORNERS:
        forms += [(f"corner_{100 * p:.0f}_{n}", _scaled(corner, p), False) for n, corner in enumerate(_CORNER_CUTS)]
    for p in _SIDES:
        forms += [(f"side_{100 * p:.0f}_{n}", _scaled(side, p), False) for n, side in enumerate(_SIDE_CUTS)]
    forms += [("square", _square(width, height, 1), True), ("square_224", _square(width, height, _SQUARE_SHARE), True)]
    # An image cropped by a fraction p was wider by p / (1 - p) of what remains.
    forms += [(f"wider_{100 * p:.0f}", (-p / 2 / (1 - p),) * 4, True) for p in _WIDER_CENTRES]
    share = -_WIDER_ENDS / (1 - _WIDER_ENDS)
    forms += [(f"wider_corner_{n}", _scaled(corner, share), False) for n, corner in enumerate(_CORNER_CUTS)]
    forms += [(f"wider_side_{n}", _scaled(side, share), False) for n, side in enumerate(_SIDE_CUTS)]
    return tuple(forms)


_CORNER_CUTS: tuple[Box, ...] = ((0, 0, 1, 1), (1, 0, 0, 1), (0, 1, 1, 0), (1, 1, 0, 0))
_SIDE_CUTS: tuple[Box, ...] = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))


def _scaled(box: Box, share: float) -> Box:
    left, top, right, bottom = (share * cut for cut in box)
    return left, top, right, bottom


def _square(width: int, height: int, share: float) -> Box:
    """Return the middle square, with a side that is a fraction of the short side."""
    side = share * min(width, height)
    x, y = (1 - side / width) / 2, (1 - side / height) / 2
    return x, y, x, y


def _cut(grey: Image.Image, box: Box, mode: ResizeMode = ResizeMode.KEEP_RATIO) -> NDArray[np.uint8]:
    """Return [32, 32] uint8: the part of an image, by area average, as the dataset would show it."""
    left, top = box[0] * grey.width, box[1] * grey.height
    right, bottom = grey.width * (1 - box[2]), grey.height * (1 - box[3])
    if min(box) < 0:
        wide, high = math.ceil(max(0, -left, right - grey.width)), math.ceil(max(0, -top, bottom - grey.height))
        grey = Image.fromarray(np.pad(np.asarray(grey), ((high, high), (wide, wide)), mode="edge"))
        left, top, right, bottom = left + wide, top + high, right + wide, bottom + high
    if mode is ResizeMode.CENTER_CROP:
        excess = (right - left) - (bottom - top)
        x, y = max(0.0, excess) / 2, max(0.0, -excess) / 2
        left, top, right, bottom = left + x, top + y, right - x, bottom - y
    window = left, top, right, bottom
    if mode is ResizeMode.BORDER:
        return _bordered(grey, window)
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX, box=window))


def _bordered(grey: Image.Image, window: Box) -> NDArray[np.uint8]:
    width, height = window[2] - window[0], window[3] - window[1]
    side = _WORKING_SIDE
    scale = side / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = Image.new("L", (side, side), 255)
    canvas.paste(
        grey.resize(size, Image.Resampling.BICUBIC, box=window), ((side - size[0]) // 2, (side - size[1]) // 2)
    )
    return np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX))

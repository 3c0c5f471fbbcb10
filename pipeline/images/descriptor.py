"""Compute a 44-byte descriptor that separates near duplicates from perceptual-hash collisions.

The 8 x 8 lowest frequencies of the hash are equal for many pictures of one kind, such as drawings on one background,
and carry no colour. So a pair within the hash distance is compared again: by the signs of 16 x 16 frequencies, in
which different drawings on one background differ in 60 to 130 bits, and images that were re-encoded, resized or
cropped by 2 % in at most 32; and by the colours of the four quarters, so that the same shirt in red and in blue
remains two images. docs/duplicates.md has the measurements.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openwit.pipeline.images.phash import SIDE, dct_rows, is_low_information, phash_of
from openwit.pipeline.images.thumbnails import Thumbnails, thumbnails

BYTES = 44
_LOW = 16
_BIT_BYTES = _LOW * _LOW // 8
_DCT = dct_rows(_LOW)
# Below this brightness a colour is noise: differences are relative to at least this brightness.
_DARK = 32.0
MAX_BITS = 48
MAX_COLOUR = 0.15
# Texts move between near duplicates within these only: copies that were re-encoded, halved, brightened or cropped by
# 2 % hardly ever differ by more, the same flag in other colours does.
_SAME_BITS, _SAME_COLOUR = 32, 0.03
# Levels: where the quarters hardly differ, or nearly all is ground, as in words and charts on white, descriptors that
# are nearly equal prove little; and where no quarter differs, not even equal ones.
_TELLING_CONTRAST, _TELLING_IF_EQUAL = 10, 4
_DARKEST, _BRIGHTEST = 30, 200
# Levels by which the brightness and each colour of 32 x 32 areas may differ in an image of one colour.
_ONE_GREY, _ONE_COLOUR = 2, 4
_ONE_COLOUR_HASH = 1 << 63


def phash_and_descriptor(image: Image.Image, small: Thumbnails | None = None) -> tuple[int, bytes]:
    """Compute the 64-bit hash (see `phash`) and the descriptor of an RGB image from one grey thumbnail.

    The descriptor is 256 signs of frequencies, then red, green and blue of each quarter: 44 bytes. An image of one
    colour has no frequencies: whatever noise its encoder added, its hash has one bit and its descriptor no sign.

    Args:
        small: of the image, where they are known.
    """
    small = thumbnails(image) if small is None else small
    grey, quarters = small.grey, small.quarters.tobytes()
    if _is_one_colour(image, grey):
        return _ONE_COLOUR_HASH, bytes(_BIT_BYTES) + quarters
    frequencies = _DCT @ grey.astype(np.float64) @ _DCT.T
    flat = frequencies.reshape(-1)
    half = _LOW * _LOW // 2
    middle = np.partition(flat, (half - 1, half))
    signs = 2 * flat > middle[half - 1] + middle[half]
    return phash_of(frequencies), np.packbits(signs).tobytes() + quarters


def is_plain(hashes: NDArray[np.uint64], descriptors: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether images are of one colour: bool (N,). Stripes, crosses, discs and gradients are not.

    Args:
        hashes: uint64 (N,).
        descriptors: uint8 (N, 44).
    """
    nothing: NDArray[np.bool_] = is_low_information(hashes) & ~descriptors[:, :_BIT_BYTES].any(axis=1)
    return nothing


def _is_one_colour(image: Image.Image, grey: NDArray[np.uint8]) -> bool:
    if int(grey.max()) - int(grey.min()) > _ONE_GREY:
        return False
    extrema = image.resize((SIDE, SIDE), Image.Resampling.BOX).getextrema()
    return all(high - low <= _ONE_COLOUR for low, high in extrema)  # type: ignore[misc]


def is_similar(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether two images with near hashes show the same: bool (N,).

    Args:
        a: uint8 (N, 44), descriptors.
        b: uint8 (N, 44), or (44,) for one image against all.
    """
    bits = np.bitwise_count(a[..., :_BIT_BYTES] ^ b[..., :_BIT_BYTES]).sum(axis=-1, dtype=np.int64)
    same: NDArray[np.bool_] = (bits <= MAX_BITS) & (_colour_distance(a, b) <= MAX_COLOUR)
    return same


def may_share_texts(a: bytes, b: bytes) -> bool:
    """Return whether a text of one near duplicate fits the other, as they surely show the same.

    Stricter than `is_similar`, as a wrong text costs more than a lost one. Pictures with little to compare (words,
    charts and line art on white, flags of level stripes) are surely the same only if their descriptors are equal.

    Args:
        a: descriptor, 44 bytes.
        b: descriptor, 44 bytes.
    """
    if not have_same_colours(a, b):
        return False
    contrast = min(_contrast(a), _contrast(b))
    if a == b:
        return contrast >= _TELLING_IF_EQUAL
    bits = (int.from_bytes(a[:_BIT_BYTES]) ^ int.from_bytes(b[:_BIT_BYTES])).bit_count()
    between = all(_DARKEST <= sum(x[_BIT_BYTES:]) / 12 <= _BRIGHTEST for x in (a, b))
    return bits <= _SAME_BITS and contrast >= _TELLING_CONTRAST and between


def have_same_colours(a: bytes, b: bytes) -> bool:
    """Return whether the colours of two near duplicates are the same, not only similar.

    Args:
        a: descriptor, 44 bytes.
        b: descriptor, 44 bytes.
    """
    return bool(_colour_distance(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)) <= _SAME_COLOUR)


def _contrast(descriptor: bytes) -> int:
    """Return the levels by which the quarters differ in red, green or blue."""
    channels = (descriptor[_BIT_BYTES + n :: 3] for n in range(3))
    return max(max(levels) - min(levels) for levels in channels)


def _colour_distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the largest difference of the colours of two images' quarters, relative to their brightness: (N,)."""
    distance: NDArray[np.float64] = np.abs(_chroma(a) - _chroma(b)).max(axis=(-1, -2))
    return distance


def _chroma(descriptors: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return float64 (…, 4, 3): red, green, blue of each quarter minus its brightness, relative to the brightness."""
    colours = descriptors[..., _BIT_BYTES:].reshape(*descriptors.shape[:-1], 4, 3).astype(np.float64)
    brightness = colours.mean(axis=-1, keepdims=True)
    relative: NDArray[np.float64] = (colours - brightness) / np.maximum(brightness, _DARK)
    return relative

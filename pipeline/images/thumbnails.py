"""Compute the small area averages of an image that its hash and descriptor need, and its packed pixels, in one pass.

The averages are Pillow's, bit for bit (`convert("L")`, and `resize` with its box filter, which rounds after each
axis): every weight of that filter is 0 or the same, so that sums of pixels do. One pass over the pixels, where they
are, costs a third of Pillow's functions, each of which copies the image.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openwit.pipeline.images.resample import four_bytes

SIDE = 32
_BITS = 22  # of Pillow's weights
_HALF = 1 << (_BITS - 1)
_U32 = np.uint32


class Thumbnails(NamedTuple):
    """What one pass over an RGB image gives.

    Attributes:
        packed: uint8 [height, 3 width], the bytes that `tobytes` returns.
        grey: uint8 [32, 32], the area average of the image in grey.
        quarters: uint8 [2, 6], the area average of the image: red, green, blue of the left and the right part.
    """

    packed: NDArray[np.uint8]
    grey: NDArray[np.uint8]
    quarters: NDArray[np.uint8]


def thumbnails(image: Image.Image) -> Thumbnails:
    """Return the area averages of an RGB image, and its pixels."""
    width, height = image.size
    packed = np.empty((height, 3 * width), np.uint8)
    grey = np.empty((SIDE, SIDE), np.uint8)
    quarters = np.empty((2, 6), np.uint8)
    spans = (_spans(width, SIDE), _spans(height, SIDE), _spans(width, 2), _spans(height, 2))
    _one_pass_fast(four_bytes(image).view("<u4"), packed, grey, quarters, *spans)
    return Thumbnails(packed, grey, quarters)


@lru_cache(maxsize=1024)
def _spans(length: int, out: int) -> NDArray[np.int64]:
    """Return [out, 3]: the inputs [first, end) that each result averages, and the weight of each, as in Pillow."""
    scale = length / out
    support = 0.5 * max(scale, 1.0)
    spans = np.zeros((out, 3), np.int64)
    for number in range(out):
        centre = (number + 0.5) * scale
        low, high = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), length)
        inside = [at for at in range(low, high) if -0.5 < (at - centre + 0.5) * (1.0 / max(scale, 1.0)) <= 0.5]
        spans[number] = inside[0], inside[-1] + 1, int(0.5 + (1.0 / len(inside)) * (1 << _BITS))
    return spans


def _one_pass(
    pixels: Any, packed: Any, grey: Any, quarters: Any, columns: Any, rows: Any, halves: Any, bands: Any
) -> None:
    """Fill `packed`, `grey` and `quarters`: see `_spans` for the spans.

    Every operation is wrapped in `uint32`, as numba would widen it to 64 bits, which halves what a vector holds.

    Args:
        pixels: uint32 [height, width], red in the lowest byte.
    """
    byte, height = _U32(0xFF), pixels.shape[0]
    narrow = np.empty((height, SIDE), np.uint8)
    narrow_quarters = np.empty((height, 6), np.uint8)
    greys = np.empty(pixels.shape[1], np.uint8)
    for y in range(height):
        row, four, three = pixels[y], pixels[y].view(np.uint8), packed[y]
        for x in range(row.size):
            three[3 * x] = four[4 * x]
            three[3 * x + 1] = four[4 * x + 1]
            three[3 * x + 2] = four[4 * x + 2]
        for x in range(row.size):
            red, green = _U32(row[x] & byte), _U32(_U32(row[x] >> _U32(8)) & byte)
            blue = _U32(_U32(row[x] >> _U32(16)) & byte)
            level = _U32(_U32(red * _U32(19595)) + _U32(green * _U32(38470)))
            level = _U32(_U32(level + _U32(blue * _U32(7471))) + _U32(0x8000))
            greys[x] = np.uint8(level >> _U32(16))
        for n in range(SIDE):
            span = greys[columns[n, 0] : columns[n, 1]]
            level = _U32(0)
            for x in range(span.size):
                level = _U32(level + _U32(span[x]))
            narrow[y, n] = (np.int64(level) * columns[n, 2] + _HALF) >> _BITS
        for n in range(2):
            part = row[halves[n, 0] : halves[n, 1]]
            red, green, blue = _U32(0), _U32(0), _U32(0)
            for x in range(part.size):
                red = _U32(red + _U32(part[x] & byte))
                green = _U32(green + _U32(_U32(part[x] >> _U32(8)) & byte))
                blue = _U32(blue + _U32(_U32(part[x] >> _U32(16)) & byte))
            narrow_quarters[y, 3 * n] = (np.int64(red) * halves[n, 2] + _HALF) >> _BITS
            narrow_quarters[y, 3 * n + 1] = (np.int64(green) * halves[n, 2] + _HALF) >> _BITS
            narrow_quarters[y, 3 * n + 2] = (np.int64(blue) * halves[n, 2] + _HALF) >> _BITS
    sums = np.empty(SIDE, np.int64)
    for m in range(SIDE):
        sums[:] = 0
        for y in range(rows[m, 0], rows[m, 1]):
            for n in range(SIDE):
                sums[n] += narrow[y, n]
        for n in range(SIDE):
            grey[m, n] = (sums[n] * rows[m, 2] + _HALF) >> _BITS
    for m in range(2):
        sums[:] = 0
        for y in range(bands[m, 0], bands[m, 1]):
            for n in range(6):
                sums[n] += narrow_quarters[y, n]
        for n in range(6):
            quarters[m, n] = (sums[n] * bands[m, 2] + _HALF) >> _BITS


_one_pass_fast: Callable[..., None] = numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(
    _one_pass
)

"""Resample a box of an image to a square of bytes, in one compiled call outside Python's global lock.

The filter is Pillow's antialiased bicubic (Keys' cubic, a = -0.5, stretched to the scale). A separate kernel is needed
for two reasons: each random crop needs different weights, so these are computed in compiled code too; and the result
is written directly into the batch. Both passes run along rows of bytes, with the image transposed between them. 16-bit
integers hold the products of centred pixels and weights of 7 bits, which loses little (55 dB against Pillow's result,
where JPEG at quality 95 has 40 dB), and integers give the same result on every machine.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

# Pillow handles sides shorter than this, or than the filter, and greater reductions, for which 7 bits are too few.
_SHORTEST = 16
_STRONGEST = 8.0
_TILE = 32
_ROUND = 64 - 128 * 128


def resample_square(
    image: Image.Image, box: tuple[float, float, float, float], flip: bool, out: NDArray[np.uint8]
) -> bool:
    """Resample a box of an RGB image into `out`, mirrored if `flip` is set.

    Args:
        image: mode RGB.
        box: left, top, right, bottom, in pixels of the image.
        flip: exchange left and right.
        out: planes (3, S, S) of red, green and blue, written to.

    Returns:
        False if this kernel does not apply (very small, very large or extremely reduced images); nothing is written
        then.
    """
    left, top, right, bottom = box
    size = out.shape[1]
    shrink = max((right - left) / size, (bottom - top) / size, 1.0)
    if shrink > _STRONGEST or min(image.size) < max(_SHORTEST, 4 * shrink + 2):
        return False
    pixels = _pixels(image)
    if pixels is None:
        return False
    # Each combination of types would be compiled apart, for seconds.
    _resample(pixels, float(left), float(top), float(right), float(bottom), bool(flip), out)
    return True


def compile_resampling() -> None:
    """Compile the kernel, which takes seconds, or load it if that was done before."""
    resample_square(Image.new("RGB", (64, 64)), (0.0, 0.0, 64.0, 64.0), False, np.empty((3, 32, 32), np.uint8))


def _pixels(image: Image.Image) -> NDArray[np.uint8] | None:
    """Return (height, 4 width) bytes: Pillow's own memory, without a copy; None if it consists of several blocks."""
    try:
        storage = pa.array(image).values.buffers()[1]
    except ValueError:
        return None
    return np.frombuffer(storage, np.uint8).reshape(image.height, image.width * 4)


def _compiled(function: Callable[..., Any]) -> Any:
    return numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(function)


@_compiled
def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    if x < 2:
        return (((x - 5) * x + 8) * x - 4) * -0.5
    return 0.0


@_compiled
def _weights(length: int, out: int, low: float, high: float) -> Any:
    """Return each output's first input and the weights from there: ([out] int64, [out, taps] int16, sums of 2^7)."""
    scale = (high - low) / out
    stretch = max(scale, 1.0)
    taps = int(np.ceil(2.0 * stretch)) * 2
    first = np.empty(out, np.int64)
    weights = np.empty((out, taps), np.int16)
    exact = np.empty(taps, np.float64)
    for i in range(out):
        centre = low + (i + 0.5) * scale
        start = min(max(int(np.floor(centre - 2.0 * stretch + 0.5)), 0), length - taps)
        first[i] = start
        total = 0.0
        for t in range(taps):
            exact[t] = _cubic((start + t + 0.5 - centre) / stretch)
            total += exact[t]
        # Rounding the running sums keeps the total exact; otherwise flat areas would change colour.
        running, before = 0.0, 0.0
        for t in range(taps):
            running += exact[t] * 128.0 / total
            rounded = np.round(running)
            weights[i, t] = np.int16(rounded - before)
            before = rounded
    return first, weights


@_compiled
def _weigh_rows(pixels: Any, first: Any, weights: Any, out: Any) -> None:
    """Compute out[y] = sum over t of weights[y, t] * pixels[first[y] + t], rounded and clamped to 0 to 255.

    Sums are modulo 2^16 and fit: |pixel - 128| <= 128, and the absolute weights of a cubic sum to less than 1.5 * 2^7.
    """
    width = out.shape[1]
    total = np.empty(width, np.int16)
    last = weights.shape[1] - 2
    for y in range(out.shape[0]):
        for i in range(width):
            total[i] = _ROUND
        for t in range(0, last, 2):
            row, a, b = first[y] + t, weights[y, t], weights[y, t + 1]
            for i in range(width):
                pair = np.int16(a * np.int16(pixels[row, i])) + np.int16(b * np.int16(pixels[row + 1, i]))
                total[i] = np.int16(total[i] + np.int16(pair))
        row, a, b = first[y] + last, weights[y, last], weights[y, last + 1]
        for i in range(width):
            pair = np.int16(a * np.int16(pixels[row, i])) + np.int16(b * np.int16(pixels[row + 1, i]))
            whole: Any = np.int16(total[i] + np.int16(pair))
            out[y, i] = np.uint8(min(max((whole >> 7) + 128, 0), 255))


@_compiled
def _turn(pixels: Any, out: Any, flip: bool) -> None:
    """Transpose, with the columns in reverse order if `flip` is set; in tiles that fit into the cache."""
    height, width = pixels.shape
    for y0 in range(0, height, _TILE):
        for x0 in range(0, width, _TILE):
            for y in range(y0, min(y0 + _TILE, height)):
                for x in range(x0, min(x0 + _TILE, width)):
                    if flip:
                        out[x, height - 1 - y] = pixels[y, x]
                    else:
                        out[x, y] = pixels[y, x]


@_compiled
def _resample(pixels: Any, left: float, top: float, right: float, bottom: float, flip: bool, out: Any) -> None:
    size = out.shape[1]
    height, width = pixels.shape[0], pixels.shape[1] // 4
    first_row, row_weights = _weights(height, size, top, bottom)
    first_column, column_weights = _weights(width, size, left, right)
    begin = first_column[0]
    columns = first_column[size - 1] + column_weights.shape[1] - begin
    low = np.empty((size, 4 * columns), np.uint8)
    _weigh_rows(pixels[:, 4 * begin : 4 * (begin + columns)], first_row, row_weights, low)
    turned = np.empty((columns, 4 * size), np.uint8)
    _turn(low.view(np.uint32), turned.view(np.uint32), False)
    narrow = np.empty((size, 4 * size), np.uint8)
    _weigh_rows(turned, first_column - begin, column_weights, narrow)
    square = np.empty((size, 4 * size), np.uint8)
    _turn(narrow.view(np.uint32), square.view(np.uint32), flip)
    for y in range(size):
        for plane in range(3):
            for x in range(size):
                out[plane, y, x] = square[y, 4 * x + plane]

"""Compute a 64-bit perceptual hash: near duplicates of an image differ in few bits.

The image in grey is averaged down to 32 x 32, transformed by a type-II DCT, and the 8 x 8 lowest frequencies are
compared with their median (the classic pHash). Row-major, the constant term first and in the highest bit.

Determinism: the transform runs on integers that double precision represents exactly, so it gives the same bits
on every machine and with every linear algebra library. It still depends on the 32 x 32 grey image, that is, on the
version of Pillow and of its JPEG decoder.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
_LOW = 8
_FEWEST_BITS = 28


def grey_thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """Return the [32, 32] uint8 grey image that is hashed: the area average of an image of mode L or RGB."""
    grey = image if image.mode == "L" else image.convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))


def phash(image: Image.Image) -> int:
    """Return the hash of an image of mode L or RGB."""
    return int(phash_batch(grey_thumbnail(image)[np.newaxis])[0])


def phash_of(frequencies: NDArray[np.float64]) -> int:
    """Return the hash of an image, of [8 or more, 8 or more] of its lowest frequencies."""
    low = frequencies[:_LOW, :_LOW].reshape(-1)
    middle = np.partition(low, (31, 32))
    return int.from_bytes(np.packbits(2 * low > middle[31] + middle[32]).tobytes(), "big")


def phash_batch(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the hashes of [n, 32, 32] uint8 grey images, as [n] uint64.

    Raises:
        ValueError: the array has another shape.
    """
    return _bits(_frequencies(thumbnails))


def phash_pair_batch(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the hashes of [n, 32, 32] uint8 grey images and of the same mirrored left to right, as [n] uint64 each.

    Mirroring an image flips the sign of its odd horizontal frequencies, so the second hash needs no second transform.
    It is exactly the hash of the mirrored thumbnail.

    Raises:
        ValueError: the array has another shape.
    """
    low = _frequencies(thumbnails)
    return _bits(low), _bits(low * _MIRRORED)


def is_low_information(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return [n] bool: whether a hash is shared by unlike images (of one colour, stripes, a gradient).

    Half of the frequencies are above the median, unless some equal it, as the missing frequencies of such images do.
    All of 38,702 photographs have 32 bits set; one colour has one or none, a gradient 1 to 25.
    """
    return np.bitwise_count(hashes) < _FEWEST_BITS


def hamming(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return the number of differing bits, element by element, with broadcasting."""
    return np.bitwise_count(np.bitwise_xor(a, b))


def _frequencies(thumbnails: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return [n, 8, 8] float64: the lowest frequencies, vertical first; integers."""
    if thumbnails.ndim != 3 or thumbnails.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"expected shape [n, {SIDE}, {SIDE}], got {list(thumbnails.shape)}")
    low: NDArray[np.float64] = _DCT @ thumbnails.astype(np.float64) @ _DCT.T
    return low


def _bits(low: NDArray[np.float64]) -> NDArray[np.uint64]:
    coefficients = low.reshape(len(low), _LOW * _LOW)
    middle = np.sort(coefficients, axis=1)[:, 31:33].sum(axis=1, keepdims=True)
    bits = 2 * coefficients > middle
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).reshape(len(low))


def dct_rows(count: int) -> NDArray[np.float64]:
    """Return [count, 32] float64: the lowest rows of the DCT-II, scaled to integers.

    Scale 2^12: a product of two rows with 32 x 32 bytes stays below 2^53, so every sum is exact in any order. Each
    row but the first sums to zero exactly, so an image of one colour has no frequencies rather than rounding noise.
    """
    k = np.arange(count)[:, np.newaxis]
    n = np.arange(SIDE)[np.newaxis]
    return np.round(4096 * np.cos(np.pi * k * (2 * n + 1) / (2 * SIDE)))


_DCT = dct_rows(_LOW)
# By horizontal frequency.
_MIRRORED = np.tile([1.0, -1.0], _LOW // 2)

"""A 64-bit perceptual hash: near-duplicates of an image differ in few bits.

The image in grey is averaged down to 32 x 32, transformed by a type-II DCT, and the 8 x 8 lowest frequencies are
compared with their median (the classic pHash). Row-major, the constant term first and in the highest bit.

Determinism: the transform runs on integers that double precision represents exactly, so it gives the same bits
on every machine and with every linear algebra library. What is left to depend on is the 32 x 32 grey image, that
is, the version of Pillow and of its JPEG decoder.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
_LOW = 8


def grey_thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """The [32, 32] uint8 grey image that is hashed, by area average, from an image of mode L or RGB."""
    grey = image if image.mode == "L" else image.convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))


def phash(image: Image.Image) -> int:
    """The hash of an image of mode L or RGB."""
    return int(phash_batch(grey_thumbnail(image)[np.newaxis])[0])


def phash_batch(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes of [n, 32, 32] uint8 grey images, as [n] uint64.

    Raises:
        ValueError: the array has another shape.
    """
    if thumbnails.ndim != 3 or thumbnails.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"expected shape [n, {SIDE}, {SIDE}], got {list(thumbnails.shape)}")
    low = _DCT @ thumbnails.astype(np.float64) @ _DCT.T
    coefficients = low.reshape(len(low), _LOW * _LOW)
    middle = np.sort(coefficients, axis=1)[:, 31:33].sum(axis=1, keepdims=True)
    bits = 2 * coefficients > middle
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).reshape(len(low))


def hamming(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Number of differing bits, element by element, with broadcasting."""
    return np.bitwise_count(np.bitwise_xor(a, b))


def _dct_matrix() -> NDArray[np.float64]:
    """[8, 32]: the lowest rows of the DCT-II, scaled to integers.

    Scale 2^12: a product of two rows with 32 x 32 bytes stays below 2^53, so every sum is exact in any order. Each
    row but the first sums to zero exactly, so a plain image has no frequencies rather than rounding noise.
    """
    k = np.arange(_LOW)[:, np.newaxis]
    n = np.arange(SIDE)[np.newaxis]
    return np.round(4096 * np.cos(np.pi * k * (2 * n + 1) / (2 * SIDE)))


_DCT = _dct_matrix()

"""What tells near from alike: 44 bytes an image, compared for images whose 64-bit hashes are near.

Eight by eight frequencies are the same for many pictures of one kind, such as drawings on one background, and none of
them is a colour. So a pair within the distance is looked at once more: by the signs of 16 x 16 frequencies, in which
different drawings on one background differ in 60 to 130 bits, and copies that were encoded anew, resized or cropped
by 2 % in at most 32; and by the colours of the four quarters, so that the same shirt in red and in blue stays two
pictures. The figures are in docs/duplicates.md.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openwit.pipeline.images.phash import dct_rows, grey_thumbnail, phash_batch

BYTES = 44
_LOW = 16
_BIT_BYTES = _LOW * _LOW // 8
_DCT = dct_rows(_LOW)
# Below this brightness a colour is noise: differences are taken relative to at least so much.
_DARK = 32.0
MAX_BITS = 48
MAX_COLOUR = 0.15


def phash_and_descriptor(image: Image.Image) -> tuple[int, bytes]:
    """The 64-bit hash (see `phash`) and the fingerprint of an image of mode RGB, from one grey thumbnail.

    The fingerprint is 256 signs of frequencies, then red, green and blue of each quarter.
    """
    grey = grey_thumbnail(image)
    frequencies = (_DCT @ grey.astype(np.float64) @ _DCT.T).reshape(-1)
    half = _LOW * _LOW // 2
    signs = 2 * frequencies > np.partition(frequencies, (half - 1, half))[half - 1 : half + 1].sum()
    quarters = image.resize((2, 2), Image.Resampling.BOX)
    return int(phash_batch(grey[np.newaxis])[0]), np.packbits(signs).tobytes() + quarters.tobytes()


def is_similar(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether two images of near hashes show the same: bool (N,).

    Args:
        a: uint8 (N, 44), fingerprints.
        b: uint8 (N, 44), or (44,) for one image against all.
    """
    bits = np.bitwise_count(a[..., :_BIT_BYTES] ^ b[..., :_BIT_BYTES]).sum(axis=-1, dtype=np.int64)
    colour = np.abs(_chroma(a) - _chroma(b)).max(axis=(-1, -2))
    same: NDArray[np.bool_] = (bits <= MAX_BITS) & (colour <= MAX_COLOUR)
    return same


def _chroma(prints: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(…, 4, 3): how far red, green and blue of each quarter are from its brightness, relative to it."""
    colours = prints[..., _BIT_BYTES:].reshape(*prints.shape[:-1], 4, 3).astype(np.float64)
    brightness = colours.mean(axis=-1, keepdims=True)
    relative: NDArray[np.float64] = (colours - brightness) / np.maximum(brightness, _DARK)
    return relative

"""Keep decoded images in memory, so that a small dataset is decoded once and not in each epoch."""

import threading

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image


class DecodedImages:
    """Decoded RGB images by the checksum of their bytes, up to a number of bytes; those that come later are not kept.

    Nothing is dropped for another image: each image is asked for once in an epoch, in another order each time, so any
    choice of images to keep is as good as any other.

    Args:
        most_bytes: of pixels kept by this process.
    """

    def __init__(self, most_bytes: int) -> None:
        self._free = most_bytes
        self._pixels: dict[bytes, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    def get(self, encoded: bytes) -> Image.Image | None:
        """Return the image, RGB, or None if it is not kept."""
        pixels = self._pixels.get(_checksum(encoded))
        return None if pixels is None else Image.fromarray(pixels)

    def put(self, encoded: bytes, rgb: Image.Image) -> None:
        """Keep an image that was decoded in full, if there is room."""
        size = 3 * rgb.width * rgb.height
        with self._lock:
            if size > self._free:
                return
            self._free -= size
        # Two threads may both keep one image; its bytes are then counted twice, and the bound holds all the same.
        self._pixels[_checksum(encoded)] = np.array(rgb)


def _checksum(encoded: bytes) -> bytes:
    return xxhash.xxh3_128_digest(encoded)

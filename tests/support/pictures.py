"""Small pictures that no two perceptual hashes confuse."""

import io

import numpy as np
from PIL import Image


def picture(number, size=(96, 80), form="JPEG", **options):
    """Bytes of a picture of coarse coloured noise, a function of its number alone."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, form, **({"quality": 92} if form in ("JPEG", "WEBP") else {}), **options)
    return out.getvalue()

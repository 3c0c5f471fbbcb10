"""Pictures with the features of photographs: smooth areas, edges, fine detail, all channels different."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image


def make_photo(width: int = 400, height: int = 300, seed: int = 0) -> Image.Image:
    """A picture that tells its corners, axes and channels apart."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    waves = 40 * np.sin(9 * x + 5 * y * y) + 30 * np.sin(30 * x * y)
    red, green, blue = 200 * x + waves + 20, 180 * y + waves + 40, 250 * (1 - x) * (1 - y) + 0.5 * waves
    pixels = np.stack([red, green, blue], axis=-1) + rng.normal(0, 3, (height, width, 1))
    pixels[height // 8 : height // 4, width // 8 : width // 3] = (230, 30, 40)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode(image: Image.Image, name: str = "JPEG", **options: object) -> bytes:
    """The image in a file format."""
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of two RGB images of the same size, in grey levels."""
    assert a.size == b.size
    return float(np.mean(np.abs(np.asarray(a.convert("RGB"), float) - np.asarray(b.convert("RGB"), float))))


@pytest.fixture(scope="session")
def photo() -> Callable[..., Image.Image]:
    return make_photo


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    return encode


@pytest.fixture(scope="session")
def distance() -> Callable[[Image.Image, Image.Image], float]:
    return difference

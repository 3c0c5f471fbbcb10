import io
import random

import numpy as np
import pytest
from PIL import Image

from openwit.training.data.decoded_images import DecodedImages
from openwit.training.data.transforms import ImageTransform, ResizedCrop


def picture(mode: str, kind: str, size: tuple[int, int], seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    image = Image.fromarray(pixels, "RGBA").convert(mode).resize(size)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


IMAGES = [
    picture("RGB", "JPEG", (97, 60), 0),
    picture("L", "JPEG", (60, 97), 1),
    picture("CMYK", "JPEG", (60, 64), 2),
    picture("RGBA", "PNG", (50, 80), 3),
    picture("P", "PNG", (80, 50), 4),
    picture("RGB", "WEBP", (64, 64), 5),
]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("size", [12, 40])
def test_the_same_pixels_come_of_memory_and_of_the_decoder(size: int, fast: bool) -> None:
    kept = DecodedImages(10**6)
    crop = ResizedCrop((0.1, 1.0), (0.75, 1.33))
    plain, remembering = (ImageTransform(size, crop, flip=True, fast=fast, kept=memory) for memory in (None, kept))
    for epoch in range(6):
        for number, image in enumerate(IMAGES):
            wanted, found = (each(image, random.Random(10 * epoch + number)) for each in (plain, remembering))
            assert np.array_equal(found, wanted)
    assert all(kept.get(image) is not None for image in IMAGES[3:]), "never kept"
    assert fast or all(kept.get(image) is not None for image in IMAGES)


def test_no_more_is_kept_than_allowed() -> None:
    small, large = Image.new("RGB", (10, 10)), Image.new("RGB", (11, 10))
    kept = DecodedImages(3 * 100 + 3 * 109)
    kept.put(b"large", Image.new("RGB", (100, 100)))
    kept.put(b"first", small)
    kept.put(b"second", large)
    kept.put(b"third", small)
    assert [kept.get(name) is not None for name in (b"large", b"first", b"second", b"third")] == [
        False,
        True,
        False,
        True,
    ]


def test_damaged_images_stay_damaged() -> None:
    transform = ImageTransform(16, ResizedCrop((0.5, 1.0), (1, 1)), fast=False, kept=DecodedImages(10**6))
    for _ in range(2):
        with pytest.raises(OSError, match="truncated"):
            transform(IMAGES[3][:-30], random.Random(0))

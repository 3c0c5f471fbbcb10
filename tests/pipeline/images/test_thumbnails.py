"""Area averages and packed pixels in one pass are those of Pillow, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from openwit.pipeline.images.phash import grey_thumbnail
from openwit.pipeline.images.resample import resample
from openwit.pipeline.images.thumbnails import thumbnails

SIDES = st.one_of(st.integers(1, 70), st.integers(1, 700))


def check(image: Image.Image) -> None:
    small = thumbnails(image)
    assert small.packed.tobytes() == image.tobytes()
    assert small.grey.tobytes() == grey_thumbnail(image).tobytes()
    assert small.quarters.tobytes() == image.resize((2, 2), Image.Resampling.BOX).tobytes()


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_they_are_those_of_pillow(width: int, height: int, seed: int) -> None:
    check(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)))


@pytest.mark.parametrize("size", [(41, 60), (300, 200)])
def test_a_resampled_image_is_read_where_it_is(size: tuple[int, int]) -> None:
    """Pillow crashes when it exports memory that it does not own."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8))
    result = resample(image, (0, 0, 600, 400), size)
    check(result)
    result.putpixel((0, 0), (1, 2, 3))  # in a copy of its own
    check(result)


def test_an_image_of_several_blocks() -> None:
    check(Image.new("RGB", (2100, 2100), (1, 2, 3)))

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.images.resize import pad, plan_resize
from openwit.pipeline.images.settings import ImageSettings, ResizeMode

MODES = st.sampled_from(list(ResizeMode))
LENGTHS = st.integers(1, 3000)


@pytest.mark.parametrize(
    ("mode", "width", "height", "resized", "canvas"),
    [
        ("keep_ratio", 1024, 512, (512, 256), (512, 256)),
        ("keep_ratio", 300, 200, (300, 200), (300, 200)),
        ("keep_ratio", 640, 427, (384, 256), (384, 256)),
        ("keep_ratio_largest", 1024, 512, (256, 128), (256, 128)),
        ("keep_ratio_largest", 256, 100, (256, 100), (256, 100)),
        ("center_crop", 1024, 512, (256, 256), (256, 256)),
        ("center_crop", 1024, 200, (1024, 200), (1024, 200)),
        ("border", 1024, 512, (256, 128), (256, 256)),
        ("border", 200, 100, (200, 100), (200, 100)),
        ("no", 5000, 100, (5000, 100), (5000, 100)),
        ("keep_ratio_largest", 3000, 1, (256, 1), (256, 1)),
    ],
)
def test_modes(mode: str, width: int, height: int, resized: tuple[int, int], canvas: tuple[int, int]) -> None:
    plan = plan_resize(width, height, ImageSettings(mode=ResizeMode(mode)))
    assert (plan.resized, plan.canvas) == (resized, canvas)


def test_enlarging_when_asked_for() -> None:
    plan = plan_resize(100, 50, ImageSettings(mode=ResizeMode.KEEP_RATIO, only_if_bigger=False))
    assert plan.resized == (512, 256)
    assert plan_resize(100, 50, ImageSettings(mode=ResizeMode.BORDER, only_if_bigger=False)).canvas == (256, 256)


def test_middle_is_in_the_middle() -> None:
    assert plan_resize(1024, 512, ImageSettings(mode=ResizeMode.CENTER_CROP)).box == (256, 0, 768, 512)


@given(MODES, LENGTHS, LENGTHS, st.integers(1, 600), st.booleans())
def test_laws(mode: ResizeMode, width: int, height: int, size: int, only_if_bigger: bool) -> None:
    options = ImageSettings(mode=mode, size=size, only_if_bigger=only_if_bigger)
    plan = plan_resize(width, height, options)
    left, top, right, bottom = plan.box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert all(1 <= part <= whole for part, whole in zip(plan.resized, plan.canvas, strict=True))
    if only_if_bigger:
        assert plan.resized[0] <= width
        assert plan.resized[1] <= height
    if mode is not ResizeMode.NO and (not only_if_bigger or min(width, height) > size):
        squares = (ResizeMode.CENTER_CROP, ResizeMode.BORDER)
        target = plan.canvas if mode in squares else (min, max)[mode is ResizeMode.KEEP_RATIO_LARGEST](plan.canvas)
        assert target == ((size, size) if mode in squares else size)
    turned = plan_resize(height, width, options)
    assert turned.resized == plan.transposed().resized
    assert turned.canvas == plan.transposed().canvas


def test_padding_is_white_and_central(photo: Any) -> None:
    image = photo(256, 127)
    padded = pad(image, (256, 256))
    assert padded.size == (256, 256)
    assert padded.crop((0, 64, 256, 191)).tobytes() == image.tobytes()
    assert padded.crop((0, 0, 256, 64)).getcolors() == [(256 * 64, (255, 255, 255))]
    assert padded.crop((0, 191, 256, 256)).getcolors() == [(256 * 65, (255, 255, 255))]
    assert pad(image, image.size) is image

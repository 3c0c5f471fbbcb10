from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from openwit.pipeline.images.resample import _weigh_rows, _weigh_rows_fast, _weights, resample

SIZES = st.tuples(st.integers(1, 90), st.integers(1, 90))


def psnr(a: Image.Image, b: Image.Image) -> float:
    error = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize("size", [(341, 256), (200, 150), (64, 48), (400, 100), (7, 5)])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_shrinks_as_pillow_does(photo: Any, size: tuple[int, int], mode: str) -> None:
    image = photo(400, 300).convert(mode)
    ours = resample(image, (0, 0, 400, 300), size)
    assert (ours.mode, ours.size) == (mode, size)
    assert psnr(ours, image.resize(size, Image.Resampling.BICUBIC)) > 50


def test_part_of_the_image(photo: Any) -> None:
    image = photo(400, 300)
    box = (50.5, 0.0, 350.5, 300.0)
    expected = image.resize((100, 100), Image.Resampling.BICUBIC, box=box)
    assert psnr(resample(image, box, (100, 100)), expected) > 50


@pytest.mark.parametrize("mode", ["L", "RGBA", "RGB"])
def test_enlarging_and_tiny_sources(photo: Any, mode: str) -> None:
    for width, height in ((40, 30), (3, 200), (1, 1)):
        image = photo(width, height).convert(mode)
        ours = resample(image, (0, 0, width, height), (80, 90))
        expected = image.resize((80, 90), Image.Resampling.BICUBIC).convert(ours.mode)
        assert psnr(ours, expected) > 45


def test_transparent_pixels_do_not_bleed() -> None:
    image = Image.new("RGBA", (100, 100), (255, 0, 0, 255))
    image.paste((0, 255, 0, 0), (50, 0, 100, 100))
    pixels = np.asarray(resample(image, (0, 0, 100, 100), (25, 25)))
    assert pixels[pixels[..., 3] > 0][:, 1].max() == 0


def test_same_size_is_the_same_image(photo: Any) -> None:
    image = photo(40, 30)
    assert resample(image, (0, 0, 40, 30), (40, 30)) is image


@given(st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)), SIZES, SIZES)
@settings(max_examples=60)
def test_flat_areas_keep_their_colour(
    colour: tuple[int, int, int], source: tuple[int, int], size: tuple[int, int]
) -> None:
    result = resample(Image.new("RGB", source, colour), (0, 0, *source), size)
    assert result.getcolors() == [(size[0] * size[1], colour)]


@given(st.integers(1, 300), st.integers(1, 300))
def test_weights_sum_up_and_stay_inside(length: int, out: int) -> None:
    found = _weights(length, out, 0, length)
    if found is None:
        assert length < 4 * max(length / out, 1) + 2
        return
    first, weights = found
    assert (weights.sum(axis=1) == 128).all()
    assert first.min() >= 0
    assert (first + weights.shape[1]).max() <= length
    # The bound that 16-bit sums rest on.
    assert np.abs(weights.astype(int)).sum(axis=1).max() < 192


def test_extremes_do_not_wrap_around() -> None:
    """Black and white in the pattern of the weights' signs: the largest sums there can be."""
    first, weights = _weights(64, 40, 0, 64)  # type: ignore[misc]
    pixels = np.zeros((64, 80), np.uint8)
    for column in range(40):
        span = slice(first[column], first[column] + weights.shape[1])
        pixels[span, 2 * column] = np.where(weights[column] > 0, 255, 0)
        pixels[span, 2 * column + 1] = np.where(weights[column] > 0, 0, 255)
    out = np.empty((40, 80), np.uint8)
    _weigh_rows_fast(pixels, first, weights, out, np.empty(80, np.int16))
    exact = np.stack([weights[y].astype(int) @ pixels[first[y] : first[y] + weights.shape[1]] for y in range(40)])
    assert np.array_equal(out, np.clip((exact + 64) // 128, 0, 255))
    assert out.max() == 255
    assert out.min() == 0


def test_compiled_and_plain_python_agree(photo: Any) -> None:
    pixels = np.ascontiguousarray(np.asarray(photo(20, 30)).reshape(30, 60))
    found = _weights(30, 11, 0, 30)
    assert found is not None
    fast, slow = np.empty((11, 60), np.uint8), np.empty((11, 60), np.uint8)
    _weigh_rows_fast(pixels, *found, fast, np.empty(60, np.int16))
    with np.errstate(over="ignore"):
        _weigh_rows(pixels, *found, slow, np.empty(60, np.int16))
    assert np.array_equal(fast, slow)

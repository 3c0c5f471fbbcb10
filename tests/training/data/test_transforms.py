import io
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openwit.training.data import resample
from openwit.training.data.resample import resample_square
from openwit.training.data.transforms import (
    MEAN,
    STD,
    ImageTransform,
    ResizedCrop,
    SquareCrop,
    evaluation_transform,
    normalise,
)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(97, 64), (64, 64), (200, 301), (33, 500), (40, 30)])
def test_evaluation_is_resize_then_centre_crop(size: tuple[int, int]) -> None:
    image = picture(*size)
    short = min(size)
    resized = image.resize((int(64 * size[0] / short), int(64 * size[1] / short)), Image.Resampling.BICUBIC)
    left, top = round((resized.width - 64) / 2), round((resized.height - 64) / 2)
    expected = np.asarray(resized.crop((left, top, left + 64, top + 64))).astype(int)
    found = evaluation_transform(64, fast=False)(encoded(image), random.Random(0)).astype(int)
    assert found.shape == (64, 64, 3)
    assert np.abs(found - expected).max() <= 1


def test_random_crop_is_resize_then_crop_at_a_whole_pixel() -> None:
    image = picture(150, 100)
    resized = np.asarray(image.resize((96, 64), Image.Resampling.BICUBIC)).astype(int)
    offsets = set()
    for seed in range(40):
        exact = ImageTransform(64, SquareCrop(64, central=False), fast=False)
        found = exact(encoded(image), random.Random(seed)).astype(int)
        distances = [np.abs(found - resized[:, x : x + 64]).max() for x in range(33)]
        assert min(distances) <= 1
        offsets.add(int(np.argmin(distances)))
    assert len(offsets) > 15


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.integers(0, 1000),
    st.sampled_from([SquareCrop(32, False), SquareCrop(32, True), ResizedCrop((0.2, 1.0), (0.75, 4 / 3))]),
)
def test_crops_lie_inside_the_image(width: int, height: int, seed: int, crop) -> None:
    box = crop(width, height, random.Random(seed))
    assert box.width > 0
    assert box.height > 0
    assert -1e-9 <= box.left <= box.left + box.width <= width + 1e-6
    assert -1e-9 <= box.top <= box.top + box.height <= height + 1e-6


@given(st.integers(20, 400), st.integers(20, 400), st.integers(0, 1000))
def test_resized_crops_keep_to_scale_and_ratio(width: int, height: int, seed: int) -> None:
    box = ResizedCrop((0.3, 0.8), (0.75, 4 / 3))(width, height, random.Random(seed))
    if 0.75 <= width / height <= 4 / 3:
        assert 0.25 < box.width * box.height / (width * height) < 0.88
    assert 0.69 < box.width / box.height < 1.45


def test_the_fast_path_looks_like_the_exact_one() -> None:
    jpeg = encoded(picture(640, 480), "JPEG")
    exact = evaluation_transform(64, fast=False)(jpeg, random.Random(0)).astype(float)
    fast = evaluation_transform(64, fast=True)(jpeg, random.Random(0)).astype(float)
    assert np.sqrt(np.mean((exact - fast) ** 2)) < 3


def test_flip_mirrors_about_half_the_time() -> None:
    data = encoded(picture(64, 64))
    plain = evaluation_transform(64, fast=True)(data, random.Random(0))
    transform = ImageTransform(64, SquareCrop(64, central=True), flip=True)
    mirrored = 0
    for seed in range(60):
        found = transform(data, random.Random(seed))
        assert (found == plain).all() or (found == plain[:, ::-1]).all()
        mirrored += bool((found == plain[:, ::-1]).all())
    assert 15 < mirrored < 45


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    found = evaluation_transform(32, fast=True)(encoded(picture(50, 40).convert(mode), kind), random.Random(0))
    assert found.shape == (32, 32, 3)


def test_half_a_file_is_an_error() -> None:
    data = encoded(picture(300, 200), "JPEG")
    with pytest.raises(OSError):
        evaluation_transform(64, fast=True)(data[: len(data) // 2], random.Random(0))


def test_normalise_shifts_and_scales_channels() -> None:
    pixels = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    found = normalise(pixels)
    assert found.shape == (1, 3, 1, 1)
    expected = [(value / 255 - mean) / std for value, mean, std in zip((0, 128, 255), MEAN, STD, strict=True)]
    torch.testing.assert_close(found.flatten(), torch.tensor(expected))


def test_normalise_takes_memory_of_the_caller_and_any_layout() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 5, 4), dtype=np.uint8))
    out = torch.empty(2, 3, 5, 4)
    view = pixels.permute(0, 2, 3, 1)
    assert normalise(view, out) is out
    assert torch.equal(out, normalise(view.contiguous()))


@pytest.mark.parametrize("size", [(97, 64), (65, 64), (300, 380), (64, 33), (40, 90)])
@pytest.mark.parametrize("flip", [False, True])
def test_the_integer_kernel_stays_near_pillow(size: tuple[int, int], flip: bool) -> None:
    image = picture(*size)
    box = (1.25, 2.5, size[0] - 3.75, size[1] - 0.5)
    planes = np.zeros((3, 48, 48), np.uint8)
    assert resample_square(image, box, flip, planes)
    expected = np.asarray(image.resize((48, 48), Image.Resampling.BICUBIC, box=box)).astype(float)
    found = planes.transpose(1, 2, 0)[:, ::-1] if flip else planes.transpose(1, 2, 0)
    assert 10 * np.log10(255**2 / np.mean((found - expected) ** 2)) > 45


def test_the_integer_kernel_keeps_flat_colours() -> None:
    planes = np.zeros((3, 20, 20), np.uint8)
    assert resample_square(Image.new("RGB", (57, 33), (3, 200, 255)), (2.2, 0.1, 50.7, 32.9), False, planes)
    assert [set(np.unique(plane)) for plane in planes] == [{3}, {200}, {255}]


@pytest.mark.parametrize("size", [(4, 4), (15, 200), (3000, 17)])
def test_shapes_the_kernel_does_not_serve_go_to_pillow(size: tuple[int, int]) -> None:
    transform = ImageTransform(64, ResizedCrop((0.9, 1.0), (0.01, 100)))
    assert transform(encoded(picture(*size)), random.Random(1)).shape == (64, 64, 3)


def test_the_kernel_is_compiled_once_whatever_the_types_of_a_box() -> None:
    resample.compile_resampling()
    out = np.empty((3, 32, 32), np.uint8)
    for edges in ((0, 0, 64, 64), (0.5, 0, 64, 63.5), (np.float64(1), 1.5, 60, 64)):
        assert resample_square(Image.new("RGB", (64, 64)), edges, np.bool_(True), out)
    assert len(resample._resample.signatures) == 1

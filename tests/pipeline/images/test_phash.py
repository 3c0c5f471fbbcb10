from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from openwit.pipeline.images.phash import (
    SIDE,
    grey_thumbnail,
    hamming,
    is_low_information,
    phash,
    phash_batch,
    phash_pair_batch,
)

THUMBNAILS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(SIDE), st.just(SIDE)))


def test_known_values() -> None:
    """Pinned: stored hashes must mean the same in every release."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    patterns = np.stack([8 * x, (7 * x * y + 3 * y) % 256, (x * x + 5 * y * y) % 251, 255 * ((x // 5 + y // 3) % 2)])
    assert [f"{int(h):016x}" for h in phash_batch(patterns.astype(np.uint8))] == PINNED


PINNED = ["8000000000000000", "800c0b2f333f3f2f", "ff0e07030ea33e17", "a1f9a1f981f901e9"]


def test_plain_images_have_no_noise_in_their_hash() -> None:
    for level in (1, 77, 128, 255):
        assert phash(Image.new("RGB", (300, 200), (level,) * 3)) == 1 << 63
    assert phash(Image.new("L", (50, 50), 0)) == 0


def test_small_changes_change_few_bits(photo: Any) -> None:
    image = photo(600, 400)
    base = np.uint64(phash(image))
    for changed in (
        image.resize((300, 200)),
        image.point(lambda level: min(255, int(level * 1.1))),
        image.convert("L"),
        image.crop((6, 4, 594, 396)),
    ):
        assert hamming(base, np.uint64(phash(changed))) <= 8
    assert hamming(base, np.uint64(phash(photo(600, 400, seed=1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)))) > 16


@given(THUMBNAILS)
def test_batch_equals_one_by_one(thumbnails: Any) -> None:
    batch = phash_batch(thumbnails)
    assert batch.dtype == np.uint64
    assert batch.tolist() == [int(phash_batch(one[np.newaxis])[0]) for one in thumbnails]


@given(THUMBNAILS)
def test_exact_integers_give_the_same_bits(thumbnails: Any) -> None:
    """The same in Python's unbounded integers: nothing in the transform is rounded."""
    k, n = np.mgrid[0:8, 0:SIDE]
    matrix = np.round(4096 * np.cos(np.pi * k * (2 * n + 1) / (2 * SIDE))).astype(int).astype(object)
    for thumbnail, found in zip(thumbnails, phash_batch(thumbnails), strict=True):
        low = (matrix @ thumbnail.astype(int).astype(object) @ matrix.T).ravel().tolist()
        middle = sum(sorted(low)[31:33])
        assert int(found) == int("".join("1" if 2 * value > middle else "0" for value in low), 2)


@given(THUMBNAILS)
def test_the_mirrored_hash_is_that_of_the_mirrored_thumbnail(thumbnails: Any) -> None:
    hashes, mirrored = phash_pair_batch(thumbnails)
    assert hashes.tolist() == phash_batch(thumbnails).tolist()
    assert mirrored.tolist() == phash_batch(np.ascontiguousarray(thumbnails[:, :, ::-1])).tolist()


def test_what_says_nothing(photo: Any) -> None:
    y, x = np.mgrid[0:200, 0:300]
    pictures = [
        *(Image.new("L", (300, 200), level) for level in (0, 1, 128, 255)),
        *(Image.fromarray(values.astype(np.uint8)) for values in (x * 0.8, y, (x + y) / 2, 255 * (x // 30 % 2))),
    ]
    assert is_low_information(np.array([phash(image) for image in pictures], np.uint64)).all()
    assert not is_low_information(np.array([phash(photo()), phash(photo(31, 77))], np.uint64)).any()


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9), st.integers(0, 2**64 - 1))
def test_hamming(numbers: list[int], other: int) -> None:
    found = hamming(np.array(numbers, np.uint64), np.array([other], np.uint64))
    assert found.tolist() == [(number ^ other).bit_count() for number in numbers]


def test_thumbnail_is_an_average(photo: Any) -> None:
    image = photo(320, 320)
    thumbnail = grey_thumbnail(image)
    assert thumbnail.shape == (SIDE, SIDE)
    blocks = np.asarray(image.convert("L"), float).reshape(32, 10, 32, 10).mean(axis=(1, 3))
    assert np.abs(thumbnail - blocks).max() <= 1


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        phash_batch(np.zeros((1, 8, 8), np.uint8))

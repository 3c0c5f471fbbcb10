"""Features are computed once, resumed after a kill, and never taken for those of other images."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from openwit.schemas.common.errors import DataError, StorageError
from openwit.schemas.common.locks import hold_lock
from openwit.training.config.zoo import InputSpec
from openwit.training.evaluation.classification_data import Labelled
from openwit.training.evaluation.features import RawPixels, compute
from openwit.training.evaluation.features.compute import Features, compute_features


@dataclass
class Pictures:
    """A set in memory."""

    images: list[bytes]

    def __len__(self) -> int:
        return len(self.images)

    def key(self, index: int) -> str:
        return f"row {index}"

    def sample(self, index: int) -> Labelled:
        return Labelled(self.key(index), self.images[index], 0)


@dataclass
class Means:
    """Mean colours; counts its images, and may be killed."""

    kill_at: int = 10**9
    seen: int = 0
    name: str = "means"
    key: dict[str, Any] = field(default_factory=lambda: {"means": 1})
    inputs: InputSpec = field(default_factory=lambda: InputSpec(image_size=8, context_length=3))

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        if self.seen + len(pixels) > self.kill_at:
            raise KeyboardInterrupt
        self.seen += len(pixels)
        return torch.from_numpy(pixels).float().mean(dim=(1, 2))


@pytest.fixture
def pictures(factory: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Pictures:
    monkeypatch.setattr(compute, "CHUNK", 4)
    made = [factory.jpeg(np.full((9, 9, 3), 10 * number, np.uint8)) for number in range(18)]
    made[5] = b"no image"
    return Pictures(made)


def check(found: Features, count: int = 18, bad: int = 5) -> None:
    assert found.unreadable == [f"row {bad}"]
    assert found.indices.tolist() == [number for number in range(count) if number != bad]
    np.testing.assert_allclose(found.rows, np.repeat(found.indices[:, None] * 10.0, 3, axis=1), atol=1)


def test_without_a_folder_and_with_one(pictures: Pictures, tmp_path: Path) -> None:
    alone = compute_features(Means(), pictures, batch_size=3)
    kept = compute_features(Means(), pictures, batch_size=3, folder=tmp_path)
    check(alone)
    check(kept)
    assert isinstance(kept.rows, np.memmap)
    assert alone.sha256 == kept.sha256
    again = Means()
    found = compute_features(again, pictures, batch_size=3, folder=tmp_path)
    assert again.seen == 0
    check(found)
    assert found.sha256 == kept.sha256
    assert len(list(tmp_path.rglob("chunk-*"))) == 0
    other = Means(key={"means": 2})
    compute_features(other, pictures, folder=tmp_path)
    assert other.seen == 17


def test_a_killed_run_is_resumed_by_chunks(pictures: Pictures, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        compute_features(Means(kill_at=10), pictures, batch_size=2, folder=tmp_path)
    done = sorted(path.name for path in tmp_path.rglob("chunk-*"))
    assert done == ["chunk-000000.npz", "chunk-000001.npz"]
    next(tmp_path.rglob("chunk-000000.npz")).write_bytes(b"PK damaged")
    again = Means()
    check(compute_features(again, pictures, folder=tmp_path))
    assert again.seen == 17 - 3


def test_another_image_under_the_same_name_is_computed_again(
    pictures: Pictures, tmp_path: Path, factory: SimpleNamespace
) -> None:
    first = compute_features(Means(), pictures, folder=tmp_path)
    pictures.images[9] = factory.jpeg(np.full((9, 9, 3), 250, np.uint8))
    again = Means()
    found = compute_features(again, pictures, folder=tmp_path)
    assert again.seen == 4
    assert found.sha256 != first.sha256
    np.testing.assert_allclose(found.rows[8], 250, atol=1)
    np.testing.assert_array_equal(np.delete(found.rows, 8, 0), np.delete(first.rows, 8, 0))


def test_what_is_damaged_or_of_no_use(pictures: Pictures, tmp_path: Path) -> None:
    compute_features(Means(), pictures, folder=tmp_path)
    next(tmp_path.rglob("features.npy")).write_bytes(b"\x93NUMPY")
    again = Means()
    check(compute_features(again, pictures, folder=tmp_path))
    assert again.seen == 17
    with pytest.raises(DataError, match="none of the 2 images can be read"):
        compute_features(Means(), Pictures([b"", b"x"]), folder=tmp_path / "none")
    with pytest.raises(DataError, match="no images"):
        compute_features(Means(), Pictures([]))
    inner = next(tmp_path.glob("*/.lock"))
    with hold_lock(inner, "busy"), pytest.raises(StorageError, match="another command computes the features"):
        compute_features(Means(), pictures, folder=tmp_path)


class Failed(Means):
    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        return torch.full((len(pixels), 3), torch.nan)


def test_a_model_of_nan_is_an_error(pictures: Pictures) -> None:
    with pytest.raises(DataError, match="features of means are not finite in the batch from image 'row 0' on"):
        compute_features(Failed(), pictures)


def test_raw_pixels(pictures: Pictures) -> None:
    found = compute_features(RawPixels(4), pictures)
    assert found.rows.shape == (17, 48)
    np.testing.assert_allclose(found.rows[6], 70 / 255, atol=0.01)

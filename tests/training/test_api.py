"""The trainer as a library: datasets for torch's DataLoader, and a loaded model."""

import logging
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.data import DataLoader

from openwit.schemas.common.errors import DataError, RecipeError
from openwit.training.api import (
    CorruptSampleError,
    IterableShardedDataset,
    collate,
    fit,
    load_config,
    load_model,
    open_dataset,
)
from openwit.training.data.transforms import Preprocess


def test_a_split_is_a_sequence(dataset: Path) -> None:
    val = open_dataset(dataset, split="val")
    assert len(val) == len(list(val)) == 48
    example = val[3]
    assert (example.image.size, example.image.mode) == ((64, 48), "RGB")
    assert example.texts == val.sample(3).texts
    assert example.metadata["url"] == f"http://x/{example.key}"
    assert val[-1].key == val[np.int64(47)].key
    with pytest.raises(IndexError):
        val[48]
    with pytest.raises(DataError, match="no split 'test'"):
        open_dataset(str(dataset), split="test")


@pytest.mark.parametrize("index", [slice(0, 2), "0", 1.5, None], ids=str)
def test_an_index_that_is_no_integer_is_one_sentence(dataset: Path, index: Any) -> None:
    with pytest.raises(TypeError, match="a sample's index is an integer, got "):
        open_dataset(dataset, split="train")[index]


@pytest.mark.parametrize("place", [None, 3, b"folder"], ids=str)
def test_a_dataset_that_is_no_path_is_one_sentence(place: Any) -> None:
    with pytest.raises(TypeError, match="open_dataset takes a folder or a URL, got "):
        open_dataset(place)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_data_loader_takes_it_with_workers(dataset: Path, context: str) -> None:
    val = open_dataset(dataset, split="val", transform=Preprocess(32))
    loader = DataLoader(val, batch_size=20, num_workers=2, collate_fn=collate, multiprocessing_context=context)
    batches = list(loader)
    assert [tuple(batch["images"].shape) for batch in batches] == [(20, 3, 32, 32), (20, 3, 32, 32), (8, 3, 32, 32)]
    assert [key for batch in batches for key in batch["keys"]] == [val.key(index) for index in range(48)]
    assert torch.equal(batches[0]["images"][5], val[5].image)
    assert pickle.loads(pickle.dumps(val))[7].texts == val[7].texts


def test_ranks_and_workers_share_an_epoch_without_duplicates(dataset: Path) -> None:
    val = open_dataset(dataset, split="val")
    orders = []
    for epoch in (0, 1):
        keys: list[str] = []
        for rank in range(3):
            part = IterableShardedDataset(val, seed=4, rank=rank, world=3)
            part.set_epoch(epoch)
            workers = 2 if rank == 0 and epoch else 0
            keys += [example.key for example in DataLoader(part, batch_size=None, num_workers=workers)]
        assert sorted(keys) == sorted(val.key(index) for index in range(48))
        orders.append(keys)
    assert orders[0] != orders[1]
    plain = IterableShardedDataset(val, shuffle=False, rank=1, world=5, even=True)
    assert [example.key for example in plain] == [val.key(index) for index in range(9, 18)]
    with pytest.raises(RecipeError, match="rank 3 must be a number from 0 to 2"):
        IterableShardedDataset(val, rank=3, world=3)


def test_unreadable_samples(factory: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = factory.coloured(1, "a")
    folder = factory.write_dataset(tmp_path / "d", {"train": [good, factory.Made("bad", b"no image", ("a text",))]})
    data = open_dataset(folder)
    with pytest.raises(CorruptSampleError, match="bad: image: "):
        data[1]
    with caplog.at_level(logging.WARNING):
        assert [example.key for example in IterableShardedDataset(data, rank=0, world=1)] == [good.key]
    assert "skipped an unreadable sample: bad" in caplog.text


def test_fit_is_silent_and_its_model_embeds(
    configure: Any, dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(configure()))
    outcome = fit(load_config(path, overrides=["schedule.duration=2 steps"]))
    assert capfd.readouterr() == ("", "")
    assert outcome.evaluations["retrieval"].metrics["image_to_text_recall_at_10"] >= 0
    model = load_model(tmp_path / "run")
    images = [open_dataset(dataset, split="val")[index].image for index in range(3)]
    pixels = np.stack([np.asarray(image) for image in images])
    embedded = model.encode_image(images, batch_size=2)
    assert embedded.shape == (3, 32)
    torch.testing.assert_close(model.encode_image(pixels), embedded)
    prepared = torch.stack([model.preprocess(image) for image in images])
    torch.testing.assert_close(model.encode_image(prepared), embedded)
    torch.testing.assert_close(model.encode_image(images[0].convert("RGBA")), embedded[:1])
    assert model.encode_text("a red box").shape == (1, 32)
    assert model.description == "step 2, 48 samples seen"
    for wrong in (torch.zeros(1, 3, 8, 8), [], torch.zeros(3, 32, 32, dtype=torch.uint8)):
        with pytest.raises(DataError):
            model.encode_image(wrong)
    with pytest.raises(TypeError, match="images must be PIL images or pixels, got str: open files first"):
        model.encode_image(["a.jpg"])
    with pytest.raises(DataError, match="not a readable image"):
        model.preprocess(b"broken")
    assert isinstance(images[0], Image.Image)

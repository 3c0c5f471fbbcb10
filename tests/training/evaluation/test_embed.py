import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.data.sharded import ShardedDataset
from openwit.training.evaluation.embed import Embedder
from openwit.training.models.clip import Clip
from openwit.training.tokenizer.bpe import clip_tokenizer


def embedder(batch_size: int = 7) -> Embedder:
    torch.manual_seed(0)
    vision = VisionSpec(image_size=32, patch_size=8, width=16, layers=1, heads=2)
    text = TextSpec(context_length=16, width=16, layers=1, heads=2)
    model = Clip(ClipSpec(embed_dim=8, vision=vision, text=text), patch_dropout=0.5).train()
    autocast = torch.autocast("cpu", enabled=False)
    return Embedder(model, clip_tokenizer(), device=torch.device("cpu"), autocast=autocast, batch_size=batch_size)


def test_entries_join_images_to_distinct_texts(dataset: Path) -> None:
    val = ShardedDataset(dataset, "val")
    reports: list[tuple[int, int]] = []
    found = embedder().split(val, progress=lambda done, whole: reports.append((done, whole)))
    assert found.images.shape == (48, 8)
    assert found.texts.shape == (len(found.captions), 8)
    assert len(set(found.captions)) == len(found.captions)
    joined = {(int(i), found.captions[t]) for i, t in zip(found.entry_image, found.entry_text, strict=True)}
    assert joined == {(n, text) for n in range(48) for text in val.sample(n).texts}
    assert reports[-1][0] == reports[-1][1] == 48 + len(found.captions)


def test_batches_do_not_matter_and_the_model_is_left_as_it_was(dataset: Path) -> None:
    val = ShardedDataset(dataset, "val")
    small = embedder(5)
    one, other = small.split(val), embedder(64).split(val)
    torch.testing.assert_close(one.images, other.images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.texts, other.texts, rtol=1e-4, atol=1e-5)
    assert small._model.training


def test_a_limit_takes_the_first_samples(dataset: Path) -> None:
    val = ShardedDataset(dataset, "val")
    found = embedder().split(val, limit=10)
    assert found.indices.tolist() == list(range(10))
    torch.testing.assert_close(found.images, embedder().split(val).images[:10], rtol=1e-4, atol=1e-5)


def test_unreadable_samples_are_named(factory: SimpleNamespace, tmp_path: Path) -> None:
    samples = [factory.coloured(number, "e") for number in range(6)]
    samples[2] = factory.Made("broken", b"no image", ("text",))
    folder = factory.write_dataset(tmp_path / "d", {"val": samples})
    found = embedder(3).split(ShardedDataset(folder, "val"))
    assert found.unreadable == ["broken"]
    assert found.indices.tolist() == [0, 1, 3, 4, 5]
    assert set(found.entry_image) == set(np.arange(5))
    shutil.rmtree(folder)
    folder = factory.write_dataset(folder, {"val": samples[2:4]})
    with pytest.raises(OpenWITError, match="has 1 readable images, but retrieval needs at least two"):
        embedder().split(ShardedDataset(folder, "val"))

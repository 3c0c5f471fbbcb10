from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.zoo import ClipSpec, ResNetSpec, TextSpec, VisionSpec
from openwit.training.models.clip import Clip
from openwit.training.objectives.contrastive import ContrastiveObjective
from openwit.training.tokenizer.bpe import SMALLEST_VOCABULARY, ClipTokenizer, clip_tokenizer

MERGES = "#version: 0.2\nt h\nth e</w>\nc a\nca t</w>\nh e\n"
OWN = SMALLEST_VOCABULARY + 5
TEXT = TextSpec(context_length=12, vocabulary=OWN, width=32, layers=2, heads=4)
SPECS = {
    "resnet": ClipSpec(
        embed_dim=24, vision=ResNetSpec(image_size=64, layers=(1, 2, 1, 1), width=16, heads=8), text=TEXT
    ),
    "vit": ClipSpec(
        embed_dim=24,
        quick_gelu=True,
        vision=VisionSpec(image_size=32, patch_size=8, width=48, layers=2, heads=3),
        text=TEXT,
    ),
    "convolutions": ClipSpec(
        embed_dim=24,
        vision=VisionSpec(image_size=32, patch_size=8, width=48, layers=2, heads=3, stem="convolutions"),
        text=TEXT,
    ),
}


def source(name: str, bias: float | None = None, own_tokenizer: bool = True, **changes: Any) -> LoadedModel:
    """A model in which no gain is one and no shift zero, with a tokenizer and a lineage."""
    torch.manual_seed(0)
    spec = SPECS[name].model_copy(update=changes)
    if not own_tokenizer:
        spec = spec.model_copy(update={"text": spec.text.model_copy(update={"vocabulary": 49_408})})
    model = Clip(spec, init_logit_bias=bias).eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim == 1:
                tensor.normal_(1.0 if key.endswith("weight") else 0.0, 0.2)
    tokenizer = ClipTokenizer(MERGES) if own_tokenizer else clip_tokenizer()
    return LoadedModel(model, ContrastiveObjective(), tokenizer, lineage={"training": {"step": 7}})


def pictures(count: int, side: int) -> torch.Tensor:
    """Normalised images of 4 x 4 soft patches."""
    coarse = 2 * torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    return nn.functional.interpolate(coarse, size=side, mode="bilinear")


def tokens(source: LoadedModel) -> torch.Tensor:
    """Five texts of several lengths."""
    texts = ["the cat", "", "a hat the cat the cat ate the hat", "The, cat!", "he"]
    return torch.from_numpy(source.tokenizer(texts, source.model.spec.text.context_length))


@pytest.fixture(scope="session")
def made() -> SimpleNamespace:
    """Small models of each kind and what goes into them."""
    return SimpleNamespace(source=source, pictures=pictures, tokens=tokens)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    path = tmp_path / "out"
    path.mkdir()
    return path

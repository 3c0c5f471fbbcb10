from types import SimpleNamespace

import pytest
import torch
from torch import nn

from openwit.training.config.zoo import ClipSpec, ResNetSpec, TextSpec, VisionSpec
from openwit.training.models.clip import Clip

TEXT = TextSpec(context_length=12, vocabulary=100, width=32, layers=2, heads=2)
SPECS = {
    "resnet": ClipSpec(
        embed_dim=24, vision=ResNetSpec(image_size=64, layers=(1, 2, 1, 2), width=16, heads=16), text=TEXT
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


def scrambled(spec: ClipSpec, seed: int = 0) -> Clip:
    """A model in which no gain is one and no shift zero, and whose convolutions keep the image's strength."""
    torch.manual_seed(seed)
    model = Clip(spec).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(7)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim == 1:
                shift = 1.0 if name.endswith("weight") else 0.0
                tensor.normal_(0.4 if name.endswith("bn3.weight") else shift, 0.2)
            elif tensor.ndim == 4:
                tensor.normal_(0.0, (2 / tensor[0].numel()) ** 0.5)
            elif tensor.ndim == 0:
                tensor.fill_(3.0)
    return model


def tokens(rows: int, length: int, vocabulary: int) -> torch.Tensor:
    """Texts of several lengths, the two largest ids at their ends."""
    made = torch.zeros(rows, length, dtype=torch.int64)
    generator = torch.Generator().manual_seed(1)
    for number, row in enumerate(made):
        end = length - 1 - number % (length - 3)
        row[:end] = torch.randint(1, vocabulary - 2, (end,), generator=generator)
        row[0], row[end] = vocabulary - 2, vocabulary - 1
    return made


def pictures(count: int, side: int) -> torch.Tensor:
    """Normalised images of 4 x 4 soft patches. White noise is alike once averaged."""
    coarse = 2 * torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    return nn.functional.interpolate(coarse, size=side, mode="bilinear")


@pytest.fixture(scope="session")
def small() -> SimpleNamespace:
    """Small architectures (`specs`) and what fills them."""
    return SimpleNamespace(specs=SPECS, scrambled=scrambled, tokens=tokens, pictures=pictures)

"""A small model with CLIP's vocabulary and random weights, as a file: what embeds need not have been trained."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from openwit.training.config.zoo import ClipSpec
from openwit.training.models.clip import Clip
from openwit.training.models.weights import save_safetensors


def write_model(path: Path, seed: int, embed_dim: int = 24) -> Path:
    """Write the weights of a model drawn from a seed."""
    torch.manual_seed(seed)
    spec = ClipSpec.model_validate(
        {
            "embed_dim": embed_dim,
            "vision": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1, "heads": 1},
            "text": {"context_length": 16, "width": 64, "layers": 1, "heads": 1},
        }
    )
    path.parent.mkdir(exist_ok=True)
    save_safetensors(Clip(spec), path)
    return path


@pytest.fixture(scope="session")
def make_weights() -> Callable[..., Path]:
    """The function that writes weights."""
    return write_model


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights."""
    return write_model(tmp_path_factory.mktemp("weights") / "model.safetensors", 1)

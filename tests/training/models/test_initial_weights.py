"""The initial weights of a seed, so that no change of the code changes them unseen."""

import hashlib
from typing import Any

import pytest
import torch

from openwit.training.config.zoo import ClipSpec
from openwit.training.models.clip import Clip

VIT = {"image_size": 64, "patch_size": 32, "width": 96, "layers": 3, "heads": 3}
RESNET = {"kind": "resnet", "image_size": 64, "layers": [2, 1, 2, 1], "width": 8, "heads": 4}
TEXT = {"context_length": 16, "vocabulary": 500, "width": 64, "layers": 3, "heads": 1}


def checksum(model: torch.nn.Module) -> str:
    """Of names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="torch draws normal numbers with other functions on this processor, which round differently",
)
@pytest.mark.parametrize(
    ("vision", "expected"),
    [
        (VIT, "4b4670f67b2dd16d8b66b894539f6c5198011410584e98978e092f41781f8c47"),
        (
            {**VIT, "patch_size": 16, "stem": "convolutions"},
            "a9eda78d71d66d3cd527b65c35439874ac8a977d50d4ed0b623b13fc9bb38989",
        ),
        (RESNET, "7ef2163b02254600861c3720be126af366028d8fea817e01bfdf0cde8ed5482e"),
    ],
    ids=["vit", "convolutions", "resnet"],
)
def test_a_seed_gives_the_weights_of_all_releases(vision: dict[str, Any], expected: str) -> None:
    """These are also the checksums of commit 9dcbfff, before the architectures were many."""
    spec = ClipSpec.model_validate({"embed_dim": 48, "vision": vision, "text": TEXT})
    torch.manual_seed(0)
    assert checksum(Clip(spec)) == expected

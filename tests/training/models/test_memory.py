"""The computed memory of a step against what autograd keeps."""

from typing import Any

import pytest
import torch

from openwit.training.config.zoo import ClipSpec, ResNetSpec, TextSpec, VisionSpec, spec_of
from openwit.training.models.clip import Clip
from openwit.training.models.memory import image_activations, step_memory, text_activations

TEXT = TextSpec(context_length=32, vocabulary=64, width=64, layers=4, heads=2)
VIT = ClipSpec(
    embed_dim=32, vision=VisionSpec(image_size=64, patch_size=8, width=64, layers=4, heads=2), text=TEXT
)  # fmt: skip
RESNET = ClipSpec(embed_dim=32, vision=ResNetSpec(image_size=64, layers=(1, 2, 2, 1), width=16, heads=4), text=TEXT)


def kept(spec: ClipSpec, batch: int, *, lowered: bool, recompute: bool) -> tuple[int, int]:
    """Bytes that autograd keeps of images and of texts, weights aside."""
    model = Clip(spec).train()
    for module in model.modules():
        if hasattr(module, "recompute"):
            module.recompute = recompute
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def measure(embed: Any, inputs: torch.Tensor) -> int:
        found: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.untyped_storage().data_ptr() not in own:
                found[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", torch.bfloat16, enabled=lowered):
            embed(inputs)
        return sum(tensor.untyped_storage().nbytes() for tensor in found.values())

    images = torch.randn(batch, 3, spec.vision.image_size, spec.vision.image_size)
    tokens = torch.randint(1, 60, (batch, TEXT.context_length))
    return measure(model.encode_image, images), measure(model.encode_text, tokens)


@pytest.mark.parametrize("lowered", [False, True])
@pytest.mark.parametrize("spec", [VIT, RESNET], ids=["vit", "resnet"])
def test_activations_are_those_that_autograd_keeps(spec: ClipSpec, lowered: bool) -> None:
    small, large = (kept(spec, batch, lowered=lowered, recompute=False) for batch in (4, 12))
    images, texts = ((b - a) / 8 for a, b in zip(small, large, strict=True))
    assert image_activations(spec, lowered=lowered, recompute=False) == pytest.approx(images, rel=0.05)
    assert text_activations(TEXT, lowered=lowered, recompute=False) == pytest.approx(texts, rel=0.05)


@pytest.mark.parametrize("spec", [VIT, RESNET], ids=["vit", "resnet"])
def test_recomputation_keeps_inputs_and_one_block(spec: ClipSpec) -> None:
    small, large = (kept(spec, batch, lowered=False, recompute=True) for batch in (4, 12))
    images = (large[0] - small[0]) / 8
    computed = image_activations(spec, lowered=False, recompute=True)
    assert images < computed < image_activations(spec, lowered=False, recompute=False)


def test_the_papers_batch_fits_by_chunks() -> None:
    whole = step_memory(spec_of("ViT-L/14"), batch=32_768, parameters=427_616_513)
    chunks = step_memory(spec_of("ViT-L/14"), batch=32_768, chunk=256, parameters=427_616_513)
    assert whole.total > 1 << 40
    assert chunks.total < 80 << 30
    # Bytes, not floats: a quarter of what the normalised batch would be.
    assert chunks.batch < 1.04 * 32_768 * 3 * 224**2
    eighth = step_memory(
        spec_of("ViT-L/14"), batch=32_768, chunk=256, parameters=427_616_513, processes=8, sharded=True
    )  # fmt: skip
    assert eighth.weights == chunks.weights // 8

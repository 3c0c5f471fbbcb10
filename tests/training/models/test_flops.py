import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from openwit.training.config.zoo import ZOO, spec_of
from openwit.training.models.clip import Clip
from openwit.training.models.flops import image_flops, peak_flops, text_flops


@pytest.mark.parametrize("name", list(ZOO))
def test_the_formula_counts_what_the_operators_do(name: str) -> None:
    spec = spec_of(name)
    with torch.device("meta"):
        model = Clip(spec)
        images = torch.empty(2, 3, spec.vision.image_size, spec.vision.image_size)
        tokens = torch.zeros(2, spec.text.context_length, dtype=torch.long)
    counted = []
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        for embed, inputs in ((model.visual, images), (model.text, tokens)):
            with FlopCounterMode(display=False) as counter:
                embed(inputs)
            counted.append(counter.get_total_flops() / 2)
    assert image_flops(spec) == pytest.approx(counted[0], rel=1e-6)
    assert text_flops(spec) == pytest.approx(counted[1], rel=1e-6)


def test_counts_are_the_published_ones() -> None:
    """open_clip's docs/model_profile.csv gives ViT-B/32 14.78 GFLOPs an image and text, of all its operators."""
    spec = spec_of("ViT-B/32")
    assert (image_flops(spec) + text_flops(spec)) / 1e9 == pytest.approx(14.78, rel=0.02)


def test_dropped_patches_and_short_texts_cost_less() -> None:
    spec = spec_of("ViT-B/16")
    assert image_flops(spec, 98) < 0.51 * image_flops(spec)
    assert text_flops(spec, 32) < 0.5 * text_flops(spec)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Some GPU", None),
    ],
)
def test_peaks_are_found_by_the_devices_name(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from openwit.training.config.zoo import ZOO, ClipSpec, VisionSpec, spec_of
from openwit.training.models.clip import Clip
from openwit.training.models.flops import image_flops, peak_flops, text_flops


def counted(spec: ClipSpec, tower: str, layers: int | None = None) -> float:
    """The operations of a tower, with that many blocks instead of its own."""
    if layers is not None:
        spec = spec.model_copy(update={tower: getattr(spec, tower).model_copy(update={"layers": layers})})
    least = (
        {"vision": VisionSpec(layers=1)} if tower == "text" else {"text": spec.text.model_copy(update={"layers": 1})}
    )
    spec = spec.model_copy(update=least)
    with torch.device("meta"):
        model = Clip(spec)
        images = torch.empty(2, 3, spec.vision.image_size, spec.vision.image_size)
        tokens = torch.zeros(2, spec.text.context_length, dtype=torch.long)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.visual(images) if tower == "vision" else model.text(tokens)
    return counter.get_total_flops() / 2


def of_two_blocks(spec: ClipSpec, tower: str, layers: int) -> float:
    """The same as all of them would count: the blocks of a transformer are alike."""
    one, two = counted(spec, tower, 1), counted(spec, tower, 2)
    return one + (two - one) * (layers - 1)


@pytest.mark.parametrize("name", list(ZOO))
def test_the_formula_counts_what_the_operators_do(name: str) -> None:
    spec = spec_of(name)
    if isinstance(spec.vision, VisionSpec):
        images = of_two_blocks(spec, "vision", spec.vision.layers)
    else:
        images = counted(spec, "vision")
    assert image_flops(spec) == pytest.approx(images, rel=1e-6)
    assert text_flops(spec) == pytest.approx(of_two_blocks(spec, "text", spec.text.layers), rel=1e-6)


def test_what_the_second_block_adds_each_further_one_adds() -> None:
    spec = spec_of("ViT-B/32")
    assert image_flops(spec) == pytest.approx(counted(spec, "vision"), rel=1e-6)
    assert text_flops(spec) == pytest.approx(counted(spec, "text"), rel=1e-6)


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

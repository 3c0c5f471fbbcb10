"""Count a model's floating-point operations from its sizes, and give GPUs' peak rates, for model FLOPs utilisation.

Counted in the usual way (Kaplan et al., arXiv 2001.08361, section 2.1; Chowdhery et al., arXiv 2204.02311, appendix
B): two operations per multiply-add in matrix products, convolutions and attention; the backward pass costs twice the
forward pass; normalisations and activations are not counted. Causal attention is counted as full attention. Work that
is repeated to save memory (GradCache, activation checkpointing) is counted once.
"""

from openwit.training.config.zoo import ClipSpec, ResNetSpec, TextSpec, VisionSpec

FORWARD_AND_BACKWARD = 3

# Dense bf16/fp16 with float32 accumulation, operations per second, by a part of PyTorch's device name; from NVIDIA's
# and AMD's data sheets. The first match is used, so longer names come first.
PEAKS: tuple[tuple[str, float], ...] = (
    ("B200", 2250e12),
    ("GH200", 989e12),
    ("H200 NVL", 835e12),
    ("H200", 989e12),
    ("H100 NVL", 835e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("A40", 149.7e12),
    ("A30", 165e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("L4", 121e12),
    ("V100", 125e12),
    ("T4", 65e12),
    ("RTX A6000", 154.8e12),
    ("RTX 6000 Ada", 364e12),
    ("RTX 4090", 165e12),
    ("RTX 3090", 71e12),
    ("MI300X", 1307e12),
    ("MI250X", 383e12),
)


def peak_flops(device_name: str) -> float | None:
    """Return a GPU's peak operations per second in bf16; None if it is not in the table."""
    return next((peak for part, peak in PEAKS if part.lower() in device_name.lower()), None)


def image_flops(spec: ClipSpec, kept_patches: int | None = None) -> int:
    """Return the operations of the image tower's forward pass for one image.

    Args:
        spec: sizes.
        kept_patches: number of patches that are not dropped; None: all.
    """
    vision = spec.vision
    if isinstance(vision, ResNetSpec):
        return _resnet(vision, spec.embed_dim)
    tokens = (vision.pool == "class") + (vision.patches if kept_patches is None else kept_patches)
    total = _stem(vision) + _transformer(vision.width, vision.layers, tokens, vision.mlp_ratio)
    if vision.pool == "attention":
        # Keys and values of all patches, one query, one output, and an MLP for it.
        hidden = int(vision.width * vision.mlp_ratio)
        total += 2 * (2 * tokens + 2) * vision.width**2 + 4 * tokens * vision.width + 4 * vision.width * hidden
    return total + (2 * vision.width * spec.embed_dim if vision.projection else 0)


def text_flops(spec: ClipSpec, tokens: int | None = None) -> int:
    """Return the operations of the text tower's forward pass for one text of `tokens`; None: the whole context."""
    text: TextSpec = spec.text
    length = text.context_length if tokens is None or text.fixed_length else tokens
    return _transformer(text.width, text.layers, length, text.mlp_ratio) + 2 * text.width * spec.embed_dim


def _transformer(width: int, layers: int, tokens: int, mlp_ratio: float) -> int:
    # Four width x width maps in attention, two to and from the MLP's channels, and the two products of attention.
    maps = 4 * width**2 + 2 * width * int(width * mlp_ratio)
    return layers * (2 * tokens * maps + 2 * 2 * tokens**2 * width)


def _convolution(side: int, before: int, after: int, kernel: int) -> int:
    return 2 * side**2 * before * after * kernel**2


def _stem(vision: VisionSpec) -> int:
    if vision.stem == "patch":
        return _convolution(vision.image_size // vision.patch_size, 3, vision.width, vision.patch_size)
    halvings = vision.patch_size.bit_length() - 1
    total, before, side = 0, 3, vision.image_size
    for number in range(halvings):
        channels = max(8, vision.width >> (halvings - 1 - number))
        side //= 2
        total += _convolution(side, before, channels, 3)
        before = channels
    return total + _convolution(side, before, vision.width, 1)


def _resnet(vision: ResNetSpec, embed_dim: int) -> int:
    half, width = vision.width // 2, vision.width
    side = vision.image_size // 2
    total = _convolution(side, 3, half, 3) + _convolution(side, half, half, 3) + _convolution(side, half, width, 3)
    side //= 2
    before = width
    for stage, blocks in enumerate(vision.layers):
        inner, after = width << stage, 4 * width << stage
        for block in range(blocks):
            shrinks = stage > 0 and block == 0
            outer = side // 2 if shrinks else side
            total += _convolution(side, before, inner, 1) + _convolution(side, inner, inner, 3)
            total += _convolution(outer, inner, after, 1)
            if before != after or shrinks:
                total += _convolution(outer, before, after, 1)
            before, side = after, outer
    tokens, channels = vision.positions + 1, vision.channels
    # Attention pooling: keys and values of all positions, one query, one output.
    total += 2 * (2 * tokens + 1) * channels**2 + 2 * 2 * tokens * channels
    return total + 2 * channels * embed_dim

"""Image tower: Vision Transformer with an extra normalisation before the blocks (paper section 2.4)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from openwit.schemas.common.hashing import GOLDEN, MIX_1, MIX_2
from openwit.training.config.zoo import VisionSpec
from openwit.training.models.blocks import Transformer

# splitmix64's constants as signed integers, as torch has no unsigned arithmetic.
_GOLDEN, _MIX_1, _MIX_2 = (constant - (1 << 64) for constant in (GOLDEN, MIX_1, MIX_2))


@dataclass(frozen=True)
class PatchDropoutRng:
    """Random numbers keyed by a seed and a sample's position in the whole batch.

    They therefore do not depend on the process, chunk or device that computes a sample.

    Attributes:
        seed: of the step.
        first: position of the first sample, or of each if they are not neighbours.
    """

    seed: int
    first: int | tuple[int, ...]

    def draw(self, rows: int, columns: int, device: torch.device) -> Tensor:
        """Return (rows, columns) int64, uniform; integers wrap around."""
        if isinstance(self.first, int):
            start = self.first * columns + 1
            x = torch.arange(start, start + rows * columns, device=device) * _GOLDEN + self.seed
        else:
            starts = torch.tensor(self.first, device=device) * columns + 1
            x = (starts[:, None] + torch.arange(columns, device=device)).flatten() * _GOLDEN + self.seed
        x = (x ^ _shifted(x, 30)) * _MIX_1
        x = (x ^ _shifted(x, 27)) * _MIX_2
        return (x ^ _shifted(x, 31)).view(rows, columns)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift right logically; torch's operator is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


class VisionTransformer(nn.Module):
    """A transformer over patches and a class token; the class token, projected, is the image's embedding.

    Args:
        spec: sizes.
        embed_dim: dimensions of the shared space.
        quick_gelu: see `ClipSpec`.
        patch_dropout: share of patches dropped in training mode, drawn for each image from `patch_dropout_rng`, or
            from torch's generator if that is None.
    """

    patch_dropout_rng: PatchDropoutRng | None = None

    def __init__(self, spec: VisionSpec, embed_dim: int, quick_gelu: bool, patch_dropout: float = 0.0) -> None:
        super().__init__()
        scale = spec.width**-0.5
        self.kept_patches = max(1, round(spec.patches * (1 - patch_dropout)))
        self.conv1 = _convolutions(spec) if spec.stem == "convolutions" else _patches(spec)
        self.class_embedding = nn.Parameter(scale * torch.randn(spec.width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(spec.patches + 1, spec.width))
        self.ln_pre = nn.LayerNorm(spec.width)
        self.transformer = Transformer(spec.width, spec.layers, spec.heads, causal=False, quick_gelu=quick_gelu)
        self.ln_post = nn.LayerNorm(spec.width)
        self.proj = nn.Parameter(scale * torch.randn(spec.width, embed_dim))

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W), normalised, to (B, embed_dim), not of unit length."""
        projected: Tensor = self.features(images) @ self.proj
        return projected

    def features(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, width): the class token before the projection, which linear probes use."""
        patches = self.conv1(images).flatten(2).transpose(1, 2) + self.positional_embedding[1:]
        if self.training and self.kept_patches < patches.shape[1]:
            patches = self._drop(patches)
        first = (self.class_embedding + self.positional_embedding[0]).to(patches.dtype)
        x = torch.cat([first.expand(len(patches), 1, -1), patches], dim=1)
        x = self.transformer(self.ln_pre(x))
        pooled: Tensor = self.ln_post(x[:, 0])
        return pooled

    def _drop(self, patches: Tensor) -> Tensor:
        kept = self._kept(len(patches), patches.shape[1], patches.device)
        return patches.gather(1, kept.unsqueeze(-1).expand(-1, -1, patches.shape[2]))

    def _kept(self, batch: int, count: int, device: torch.device) -> Tensor:
        """Draw (batch, kept_patches) patch indices; never compiled (`openwit.training.engine.build_model`)."""
        if self.patch_dropout_rng is None:
            noise = torch.rand(batch, count, device=device)
        else:
            noise = self.patch_dropout_rng.draw(batch, count, device)
        return noise.topk(self.kept_patches, dim=1).indices


def _patches(spec: VisionSpec) -> nn.Module:
    """Make the paper's stem: a linear map of each patch."""
    return nn.Conv2d(3, spec.width, spec.patch_size, stride=spec.patch_size, bias=False)


def _convolutions(spec: VisionSpec) -> nn.Module:
    """Make the stem of Xiao et al., "Early Convolutions Help Transformers See Better", arXiv 2106.14881.

    3x3 convolutions of stride 2, with doubling channels, until a patch is one position, then a 1x1 convolution to the
    width; the same number of tokens for little more work. Normalisation is per image, where the source normalises over
    the batch, so that training and evaluation compute the same.
    """
    halvings = spec.patch_size.bit_length() - 1
    layers: list[nn.Module] = []
    before = 3
    for number in range(halvings):
        channels = max(8, spec.width >> (halvings - 1 - number))
        layers += [
            nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(1, channels),
            nn.GELU(),
        ]
        before = channels
    return nn.Sequential(*layers, nn.Conv2d(before, spec.width, 1))

"""Image tower: Vision Transformer, by default with an extra normalisation before the blocks (paper section 2.4)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from openwit.schemas.common.hashing import GOLDEN, MIX_1, MIX_2
from openwit.training.config.zoo import VisionSpec
from openwit.training.models.blocks import Style, Transformer
from openwit.training.models.pooling import AttentionPooling

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

    With another `spec.pool` there is no class token: the mean of the patches, or attention to them, takes its place.

    Args:
        spec: sizes.
        embed_dim: dimensions of the shared space.
        style: of the blocks, see `style_of`.
        patch_dropout: share of patches dropped in training mode, drawn for each image from `patch_dropout_rng`, or
            from torch's generator if that is None.
    """

    patch_dropout_rng: PatchDropoutRng | None = None

    def __init__(self, spec: VisionSpec, embed_dim: int, style: Style, patch_dropout: float = 0.0) -> None:
        super().__init__()
        scale = spec.width**-0.5
        self.kept_patches = max(1, round(spec.patches * (1 - patch_dropout)))
        self.conv1 = _convolutions(spec) if spec.stem == "convolutions" else _patches(spec)
        # None adds no key to the state dict.
        self.class_embedding = nn.Parameter(scale * torch.randn(spec.width)) if spec.pool == "class" else None
        self.positional_embedding = nn.Parameter(scale * torch.randn(spec.positions, spec.width))
        self.ln_pre = nn.LayerNorm(spec.width, style.eps) if spec.pre_norm else None
        self.transformer = Transformer(spec.width, spec.layers, spec.heads, causal=False, style=style)
        self.ln_post = nn.LayerNorm(spec.width, style.eps)
        self.attn_pool = AttentionPooling(spec.width, spec.heads, style) if spec.pool == "attention" else None
        self.proj = nn.Parameter(scale * torch.randn(spec.width, embed_dim)) if spec.projection else None

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W), normalised, to (B, embed_dim), not of unit length."""
        pooled = self.features(images)
        return pooled if self.proj is None else pooled @ self.proj

    def features(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, width): what is pooled, before the projection, which linear probes use."""
        x = self._blocks(images, pooled_only=self.transformer.skips)
        if self.class_embedding is not None:
            pooled: Tensor = self.ln_post(x[:, 0])
            return pooled
        return self._pooled(self.ln_post(x))

    def _blocks(self, images: Tensor, *, pooled_only: bool = False) -> Tensor:
        """Map (B, 3, H, W) to the (B, N, width) of the last block, or the (B, 1, width) of the class token, if any."""
        first = int(self.class_embedding is not None)
        x = self.conv1(images).flatten(2).transpose(1, 2) + self.positional_embedding[first:]
        if self.training and self.kept_patches < x.shape[1]:
            x = self._drop(x)
        if self.class_embedding is not None:
            token = (self.class_embedding + self.positional_embedding[0]).to(x.dtype)
            x = torch.cat([token.expand(len(x), 1, -1), x], dim=1)
        x = x if self.ln_pre is None else self.ln_pre(x)
        alone = pooled_only and self.class_embedding is not None
        rows = torch.zeros(len(x), dtype=torch.long, device=x.device) if alone else None
        blocks: Tensor = self.transformer(x, rows=rows)
        return blocks

    def _pooled(self, x: Tensor) -> Tensor:
        """Pool (B, N, width), normalised."""
        if self.class_embedding is not None:
            return x[:, 0]
        return x.mean(dim=1) if self.attn_pool is None else self.attn_pool(x)

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


class _ImageGelu(nn.GELU):
    """GELU of (B, C, H, W) in either memory layout: torch's CPU kernel takes twice the time for channels last."""

    def forward(self, x: Tensor) -> Tensor:
        """Return GELU of each element, in the layout of `x`."""
        if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _patches(spec: VisionSpec) -> nn.Module:
    """Make the paper's stem: a linear map of each patch."""
    return nn.Conv2d(3, spec.width, spec.patch_size, stride=spec.patch_size, bias=spec.patch_bias)


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
            _ImageGelu(),
        ]
        before = channels
    return nn.Sequential(*layers, nn.Conv2d(before, spec.width, 1))

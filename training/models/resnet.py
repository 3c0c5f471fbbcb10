"""Image tower: ResNet with the paper's four changes (section 2.4). Parameters are named as in openai/CLIP.

The stem and the shortcuts are ResNet-D's (He et al., arXiv 1812.01187), strides are averages over 2x2 positions before
a convolution of stride 1 (Zhang, arXiv 1904.11486), and attention pools the last feature map. The paper does not give
an initialisation for it; the released code initialises the last gain of each block with zero and the pooling's four
maps with standard deviation channels^-1/2, and uses PyTorch's default for convolutions. So does this module.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from openwit.training.config.zoo import ResNetSpec
from openwit.training.models.norms import recomputation_contexts

EXPANSION = 4


class Bottleneck(nn.Module):
    """Residual block: 1x1, 3x3 and 1x1 convolutions, the last four times as wide.

    Args:
        before: input channels.
        width: inner channels; the output has 4 * width.
        stride: 2 halves the sides, by an average before the last convolution and before the shortcut's.
    """

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = EXPANSION * width
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
        nn.init.zeros_(self.bn3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, 4 width, H / stride, W / stride)."""
        inner = F.relu(self.bn1(self.conv1(x)), inplace=True)
        inner = F.relu(self.bn2(self.conv2(inner)), inplace=True)
        inner = self.bn3(self.conv3(self.pool(inner)))
        return F.relu(inner + self.downsample(self.pool(x)), inplace=True)


class AttentionPool(nn.Module):
    """Multi-head attention with the mean over all positions as the only query of an image.

    The reference computes the output for every position and keeps the first; here only the first is computed.
    """

    def __init__(self, positions: int, channels: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(channels**-0.5 * torch.randn(positions + 1, channels))
        self.k_proj = nn.Linear(channels, channels)
        self.q_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, embed_dim)
        for layer in (self.k_proj, self.q_proj, self.v_proj, self.c_proj):
            nn.init.normal_(layer.weight, std=channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, channels); the caller applies `c_proj`."""
        batch, channels = x.shape[:2]
        positions = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([positions.mean(dim=1, keepdim=True), positions], dim=1) + self.positional_embedding
        query, key, value = (
            part.view(batch, -1, self.heads, channels // self.heads).transpose(1, 2)
            for part in (self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens))
        )
        return F.scaled_dot_product_attention(query, key, value).reshape(batch, channels)


class ResNet(nn.Module):
    """A stem, four stages of blocks, attention pooling. With `recompute` set, a block keeps only its input.

    Batch normalisation is over the images of one process. Neither the paper nor the released code indicates that the
    592 GPUs of RN50x64 shared their statistics.

    Args:
        spec: sizes.
        embed_dim: dimensions of the shared space.
    """

    def __init__(self, spec: ResNetSpec, embed_dim: int) -> None:
        super().__init__()
        self.recompute = False
        half = spec.width // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, spec.width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(spec.width)
        first, second, third, fourth = spec.layers
        self.layer1 = _stage(spec.width, spec.width, first, stride=1)
        self.layer2 = _stage(4 * spec.width, 2 * spec.width, second, stride=2)
        self.layer3 = _stage(8 * spec.width, 4 * spec.width, third, stride=2)
        self.layer4 = _stage(16 * spec.width, 8 * spec.width, fourth, stride=2)
        self.attnpool = AttentionPool(spec.positions, spec.channels, spec.heads, embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W), normalised, to (B, embed_dim), not of unit length."""
        projected: Tensor = self.attnpool.c_proj(self.features(images))
        return projected

    def features(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 32 width): the output of attention pooling, before the last map.

        The paper's linear probes use "the penultimate layer"; for ResNets it does not specify this further.
        """
        x = images
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(convolution(x)), inplace=True)
        x = F.avg_pool2d(x, 2)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = self._block(block, x)
        pooled: Tensor = self.attnpool(x)
        return pooled

    def _block(self, block: nn.Module, x: Tensor) -> Tensor:
        if not (self.recompute and torch.is_grad_enabled()):
            after: Tensor = block(x)
            return after
        contexts = recomputation_contexts(block)
        again: Tensor = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
        return again


def _stage(before: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(before, width, stride)
    return nn.Sequential(first, *(Bottleneck(EXPANSION * width, width, 1) for _ in range(blocks - 1)))

"""Transformer blocks, used by both towers. Parameters are named as in openai/CLIP."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Style:
    """What differs between families of transformers; the defaults are CLIP's.

    Attributes:
        quick_gelu, gelu, eps: see `ClipSpec`.
        mlp_ratio, layer_scale: see `VisionSpec`.
    """

    quick_gelu: bool = False
    gelu: Literal["exact", "tanh"] = "exact"
    eps: float = 1e-5
    mlp_ratio: float = 4.0
    layer_scale: float | None = None


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), as OpenAI trained with; with the exact GELU its weights lose about 2.7 points."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it elementwise, to any shape."""
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head self-attention. Dispatches to a fused kernel; the causal mask is a flag, not a matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool, rows: Tensor | None = None) -> Tensor:
        """(B, N, width) to (B, N, width), or to (B, 1, width): of one position of each sample, `rows`, (B,)."""
        if rows is not None:
            return self._at(x, causal, rows)
        batch, length, width = x.shape
        projected = self.project(x)
        split = projected.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        merged: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return merged

    def project(self, x: Tensor) -> Tensor:
        """Map (B, N, width) to the queries, keys and values, (B, N, 3 width)."""
        return self.linear(x, self.in_proj_weight, self.in_proj_bias)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Map (..., in) to (..., out) by rows of the weights of queries, keys and values."""
        return F.linear(x, weight, bias)

    def _at(self, x: Tensor, causal: bool, rows: Tensor) -> Tensor:
        """Attend from one position of each sample: keys and values of all are needed, one query, one output."""
        seen = torch.arange(x.shape[1], device=x.device) <= rows[:, None] if causal else None
        mask = None if seen is None else seen[:, None, None]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        mixed = attended(position_of(x, rows), x, weight, bias, self.heads, mask, linear=self.linear)
        found: Tensor = self.out_proj(mixed)
        return found


def position_of(x: Tensor, rows: Tensor) -> Tensor:
    """Return one position of each sample: (B, N, width) and (B,) to (B, 1, width)."""
    return x.gather(1, rows[:, None, None].expand(-1, 1, x.shape[2]))


def attended(
    asking: Tensor,
    memory: Tensor,
    weight: Tensor,
    bias: Tensor,
    heads: int,
    mask: Tensor | None = None,
    *,
    linear: Callable[[Tensor, Tensor, Tensor], Tensor] = F.linear,
) -> Tensor:
    """Let each row of one sequence attend to all rows of another.

    Args:
        asking: (B, M, width), or (1, M, width) if it is the same for all samples.
        memory: (B, N, width).
        weight, bias: (3 width, width) and (3 width,), of query, key and value.
        heads: of attention.
        mask: of what is attended to, broadcast to (B, heads, M, N); None: all.
        linear: maps by weight and bias.

    Returns:
        (B, M, width), before attention's last map.
    """
    batch, length, width = memory.shape
    query = linear(asking, weight[:width], bias[:width]).expand(batch, -1, -1)
    both = linear(memory, weight[width:], bias[width:]).view(batch, length, 2, heads, width // heads)
    key, value = both.permute(2, 0, 3, 1, 4).unbind(0)
    query = query.view(batch, query.shape[1], heads, width // heads).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
    return mixed.reshape(batch, mixed.shape[1], width)


class CrossAttention(nn.Module):
    """Multi-head attention to another sequence of the same width.

    Args:
        width: of both sequences.
        heads: divide width.
        out_width: of the result; None: the same.
    """

    def __init__(self, width: int, heads: int, out_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width if out_width is None else out_width)
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)

    def forward(self, asking: Tensor, memory: Tensor) -> Tensor:
        """(B or 1, M, width) and (B, N, width) to (B, M, out_width)."""
        merged: Tensor = self.out_proj(attended(asking, memory, self.in_proj_weight, self.in_proj_bias, self.heads))
        return merged


class LayerNorm(nn.LayerNorm):
    """Layer normalisation that also takes gains gathered in a lower precision than its input (FSDP2 on a CPU).

    On a GPU, autocast converts them itself.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        if x.dtype != torch.float32 or self.weight.dtype == x.dtype:
            return super().forward(x)
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class LayerScale(nn.Module):
    """A learned gain of each channel (Touvron et al., arXiv 2103.17239)."""

    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        return x * self.gamma


def perceptron(width: int, style: Style) -> nn.Sequential:
    """Return the MLP of a block: `c_fc`, activation, `c_proj`."""
    hidden = int(width * style.mlp_ratio)
    approximate = "tanh" if style.gelu == "tanh" else "none"
    mlp = nn.Sequential()
    mlp.add_module("c_fc", nn.Linear(width, hidden))
    mlp.add_module("gelu", QuickGELU() if style.quick_gelu else nn.GELU(approximate))
    mlp.add_module("c_proj", nn.Linear(hidden, width))
    return mlp


class Block(nn.Module):
    """Pre-norm residual block: attention, then an MLP four times as wide, or as the style says.

    With `cross` it also attends to another sequence, between the two.
    """

    def __init__(self, width: int, heads: int, style: Style, cross: bool = False) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width, style.eps)
        self.attn = Attention(width, heads)
        self.ln_2 = LayerNorm(width, style.eps)
        self.mlp = perceptron(width, style)
        # None adds no key to the state dict.
        self.ls_1 = None if style.layer_scale is None else LayerScale(width, style.layer_scale)
        self.ls_2 = None if style.layer_scale is None else LayerScale(width, style.layer_scale)
        self.ln_cross = LayerNorm(width, style.eps) if cross else None
        self.cross = CrossAttention(width, heads) if cross else None
        has_gain = cross and style.layer_scale is not None
        self.ls_cross = LayerScale(width, style.layer_scale or 0.0) if has_gain else None

    def forward(self, x: Tensor, causal: bool, memory: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """(B, N, width) and, with `cross`, the (B, M, width) to attend to, to (B, N, width).

        With `rows`, (B,), to (B, 1, width): of one position of each sample.
        """
        mixed: Tensor = self.attn(self.ln_1(x), causal, rows)
        x = x if rows is None else position_of(x, rows)
        x = x + (mixed if self.ls_1 is None else self.ls_1(mixed))
        if self.cross is not None and self.ln_cross is not None:
            found: Tensor = self.cross(self.ln_cross(x), memory)
            x = x + (found if self.ls_cross is None else self.ls_cross(found))
        perceived: Tensor = self.mlp(self.ln_2(x))
        return x + (perceived if self.ls_2 is None else self.ls_2(perceived))


class Transformer(nn.Module):
    """A stack of blocks with openai/CLIP's initialisation.

    Normal with standard deviation width^-1/2 for attention's input, (2 width)^-1/2 for the MLP's, and
    (2 layers width)^-1/2 for the two projections that write to the residual stream; biases are zero. The released code
    does this for the text tower only and uses PyTorch's default for the image tower; the paper gives no detail beyond
    "a slightly different initialization scheme", so both towers are initialised in the same way here.

    With `cross`, each block also attends to another sequence.
    With `recompute` set, a block keeps only its input for the backward pass and is recomputed there. With
    `skip_unused` set, the towers compute in training only what their pooled position depends on (`speed.skip_unused`).
    """

    def __init__(self, width: int, layers: int, heads: int, causal: bool, style: Style, cross: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.recompute = False
        self.skip_unused = False
        self.resblocks = nn.ModuleList(Block(width, heads, style, cross) for _ in range(layers))
        residual_std = (2 * layers * width) ** -0.5
        for name, parameter in self.resblocks.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith("in_proj_weight"):
                nn.init.normal_(parameter, std=width**-0.5)
            elif name.endswith("c_fc.weight"):
                nn.init.normal_(parameter, std=(2 * width) ** -0.5)
            elif name.endswith("_proj.weight"):
                nn.init.normal_(parameter, std=residual_std)

    @property
    def skips(self) -> bool:
        """Whether positions that nothing depends on are left out now."""
        return self.skip_unused and self.training

    def forward(self, x: Tensor, memory: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """(B, N, width) and, with `cross`, the (B, M, width) to attend to, to (B, N, width).

        With `rows`, (B,), to (B, 1, width): of one position of each sample.
        """
        last = len(self.resblocks) - 1
        for number, block in enumerate(self.resblocks):
            given = (x, self.causal, memory, rows if number == last else None)
            if self.recompute and torch.is_grad_enabled():
                # A block draws no random numbers, so there is no generator state to preserve.
                x = checkpoint(block, *given, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(*given)
        return x

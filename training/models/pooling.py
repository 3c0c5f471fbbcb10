"""Pool the patches of an image by attention: to one vector (MAP head, arXiv 2106.04560), or to a few tokens."""

import torch
from torch import Tensor, nn

from openwit.training.models.blocks import CrossAttention, Style, attended, perceptron


class AttentionPooling(nn.Module):
    """A learned query attends to all patches; what it finds goes through an MLP, with a residual connection."""

    def __init__(self, width: int, heads: int, style: Style) -> None:
        super().__init__()
        self.heads = heads
        self.probe = nn.Parameter(width**-0.5 * torch.randn(width))
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.ln = nn.LayerNorm(width, style.eps)
        self.mlp = perceptron(width, style)
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, width) to (B, width)."""
        query = self.probe.to(x.dtype).expand(len(x), 1, -1)
        found = attended(query, x, self.in_proj_weight, self.in_proj_bias, self.heads)
        pooled: Tensor = self.out_proj(found[:, 0])
        perceived: Tensor = self.mlp(self.ln(pooled))
        return pooled + perceived


class TokenPooling(nn.Module):
    """Learned queries attend to all patches; each becomes a token that a decoder attends to (arXiv 2205.01917).

    Args:
        width: of the patches.
        heads: divide width.
        tokens: number of queries.
        out_width: of the tokens.
        style: see `Style`.
    """

    def __init__(self, width: int, heads: int, *, tokens: int, out_width: int, style: Style) -> None:
        super().__init__()
        self.queries = nn.Parameter(width**-0.5 * torch.randn(tokens, width))
        self.attn = CrossAttention(width, heads, out_width)
        self.ln = nn.LayerNorm(out_width, style.eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, width) to (B, tokens, out_width)."""
        tokens: Tensor = self.ln(self.attn(self.queries[None], x))
        return tokens

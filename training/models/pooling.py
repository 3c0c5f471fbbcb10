"""Pool the patches of an image by attention (MAP head, Zhai et al., arXiv 2106.04560), as SigLIP does."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.training.models.blocks import Style, perceptron


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
        batch, length, width = x.shape
        weight, bias = self.in_proj_weight, self.in_proj_bias
        query = F.linear(self.probe.to(x.dtype).expand(batch, 1, width), weight[:width], bias[:width])
        both = F.linear(x, weight[width:], bias[width:]).view(batch, length, 2, self.heads, width // self.heads)
        key, value = both.permute(2, 0, 3, 1, 4).unbind(0)
        query = query.view(batch, 1, self.heads, width // self.heads).transpose(1, 2)
        found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, width)
        pooled: Tensor = self.out_proj(found)
        perceived: Tensor = self.mlp(self.ln(pooled))
        return pooled + perceived

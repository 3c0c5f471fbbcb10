"""Text tower: a causal transformer, pooled at the end-of-text token (paper section 2.4)."""

import torch
from torch import Tensor, nn

from openwit.training.config.zoo import TextSpec
from openwit.training.models.blocks import Transformer


class TextTransformer(nn.Module):
    """Maps token ids to embeddings.

    Texts may be trimmed to the longest of a batch: attention is causal and the output is pooled at the end of text, so
    later tokens, such as padding, cannot change the result.
    """

    def __init__(self, spec: TextSpec, embed_dim: int, quick_gelu: bool) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(spec.vocabulary, spec.width)
        self.positional_embedding = nn.Parameter(torch.empty(spec.context_length, spec.width))
        self.transformer = Transformer(spec.width, spec.layers, spec.heads, causal=True, quick_gelu=quick_gelu)
        self.ln_final = nn.LayerNorm(spec.width)
        self.text_projection = nn.Parameter(torch.empty(spec.width, embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=spec.width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, L) ids, L up to the context length, to (B, embed_dim), not of unit length.

        The end of text is the largest id of the vocabulary, so its first occurrence is the row's arg-max.
        """
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        x = self.transformer(x)
        last = x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)]
        projected: Tensor = self.ln_final(last) @ self.text_projection
        return projected

"""Text tower: by default a causal transformer, pooled at the end-of-text token (paper section 2.4)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.training.config.zoo import TextSpec
from openwit.training.models.blocks import Style, Transformer

# Texts of a group are computed at the length of its longest: enough for the matrix products, few enough to be alike.
GROUP_TEXTS = 32
MOST_GROUPS = 8


class TextTransformer(nn.Module):
    """Maps token ids to embeddings.

    Texts may be trimmed to the longest of a batch: attention is causal and the output is pooled at the end of text, so
    later tokens, such as padding, cannot change the result. Where attention goes both ways (`spec.causal: false`, as
    SigLIP has it), texts are filled up to the context length here, so that trimming has no effect either.
    """

    def __init__(self, spec: TextSpec, embed_dim: int, style: Style) -> None:
        super().__init__()
        self.spec = spec
        self.token_embedding = nn.Embedding(spec.vocabulary, spec.width)
        self.positional_embedding = nn.Parameter(torch.empty(spec.context_length, spec.width))
        self.transformer = Transformer(spec.width, spec.layers, spec.heads, causal=spec.causal, style=style)
        self.ln_final = nn.LayerNorm(spec.width, style.eps)
        self.text_projection: nn.Parameter | nn.Linear
        if spec.projection_bias:
            self.text_projection = nn.Linear(spec.width, embed_dim)
            nn.init.zeros_(self.text_projection.bias)
            nn.init.normal_(self.text_projection.weight, std=spec.width**-0.5)
        else:
            self.text_projection = nn.Parameter(torch.empty(spec.width, embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        # After the others, as in older releases: the same weights from the same seed.
        if isinstance(self.text_projection, nn.Parameter):
            nn.init.normal_(self.text_projection, std=spec.width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, L) ids, L up to the context length, to (B, embed_dim), not of unit length.

        The end of text is the largest id of the vocabulary, so its first occurrence is the row's arg-max.
        """
        if self.spec.fixed_length:
            tokens = self._filled(tokens)
        if self.transformer.skips:
            return self._of_pooled(tokens)
        x = self.hidden(tokens)
        if self.spec.pool == "last":
            return self._projected(x[:, -1])
        return self._projected(x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)])

    def hidden(self, tokens: Tensor) -> Tensor:
        """Map (B, L) ids to the (B, L, width) of the last block."""
        blocks: Tensor = self.transformer(self._embedded(tokens))
        return blocks

    def _of_pooled(self, tokens: Tensor) -> Tensor:
        """Compute the same as `forward`, without what the pooled position does not depend on."""
        ends = (
            torch.full_like(tokens[:, 0], tokens.shape[1] - 1) if self.spec.pool == "last" else tokens.argmax(dim=-1)
        )
        groups = min(MOST_GROUPS, len(tokens) // GROUP_TEXTS)
        # Lengths are known to the host on a CPU only, and compiled code wants few of them.
        if groups < 2 or self.spec.fixed_length or tokens.device.type != "cpu" or torch.compiler.is_compiling():
            return self._projected(self.transformer(self._embedded(tokens), rows=ends)[:, 0])
        order = ends.argsort(stable=True)
        ends = ends[order]
        # Looked up once: each look-up has a gradient of the whole vocabulary.
        x = self._embedded(tokens[order])
        parts = zip(x.tensor_split(groups), ends.tensor_split(groups), strict=True)
        found = torch.cat([self.transformer(part[:, : int(end[-1]) + 1], rows=end)[:, 0] for part, end in parts])
        return self._projected(found)[order.argsort()]

    def _embedded(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        return embedded

    def _projected(self, last: Tensor) -> Tensor:
        last = self.ln_final(last)
        if isinstance(self.text_projection, nn.Linear):
            projected: Tensor = self.text_projection(last)
            return projected
        return last @ self.text_projection

    def _filled(self, tokens: Tensor) -> Tensor:
        """Fill (B, L) up to the context length, and replace the zeros after a text's end (`Tokenizer`)."""
        tokens = F.pad(tokens, (0, self.spec.context_length - tokens.shape[1]))
        if self.spec.pad == 0:
            return tokens
        after = (tokens != 0).flip(1).cumsum(1).flip(1) == 0
        return tokens.masked_fill(after, self.spec.pad)

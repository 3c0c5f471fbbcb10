"""Predict a caption: a language model prefixed with the image (figure 2 and appendix A.2 of arXiv 2103.00020)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.training.config.zoo import ClipSpec, TextSpec
from openwit.training.models.blocks import Style, Transformer
from openwit.training.models.clip import image_tower, style_of

PREFIX_TOKENS = 4


class CaptionDecoder(nn.Module):
    """CLIP's text transformer as a language model of the same size; its embedding also maps back to the vocabulary.

    Sharing that matrix gives the 63M parameters that the paper states (12 layers of width 512).
    """

    def __init__(self, spec: TextSpec, style: Style) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(spec.vocabulary, spec.width)
        self.positional_embedding = nn.Parameter(torch.empty(spec.context_length, spec.width))
        self.transformer = Transformer(spec.width, spec.layers, spec.heads, causal=True, style=style)
        self.ln_final = nn.LayerNorm(spec.width, style.eps)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)

    def forward(self, prefix: Tensor, tokens: Tensor) -> Tensor:
        """Map (B, P, width) and (B, L) to (B, L, width): at position i, the features that predict the next token."""
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        x = self.transformer(torch.cat([prefix.to(x.dtype), x], dim=1))
        known: Tensor = self.ln_final(x[:, prefix.shape[1] :])
        return known


class Captioner(nn.Module):
    """Image tower whose embedding, mapped to a few tokens, precedes the caption's tokens in a causal transformer.

    This is the paper's baseline "LM RN50": four tokens, from the pooled output of the tower. `visual` is CLIP's tower
    to the last tensor; its embedding is not normalised to unit length.

    Args:
        spec: sizes; `spec.text` has those of the decoder.
        patch_dropout: see `VisionTransformer`.
        prefix_tokens: number of tokens per image.

    Example:
        >>> model = Captioner(spec_of("vit-tiny-64"))
        >>> known = model.text(model.prefix(images), tokens[:, :-1])
        >>> logits = model.logits(known)
    """

    def __init__(self, spec: ClipSpec, patch_dropout: float = 0.0, prefix_tokens: int = PREFIX_TOKENS) -> None:
        super().__init__()
        self.spec = spec
        self.inputs = spec.inputs
        self.prefix_tokens = prefix_tokens
        self.visual = image_tower(spec, patch_dropout)
        self.prefix_projection = nn.Linear(spec.embed_dim, prefix_tokens * spec.text.width)
        self.text = CaptionDecoder(spec.text, style_of(spec, spec.text))

    def prefix(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W), normalised, to (B, prefix_tokens, text width)."""
        projected: Tensor = self.prefix_projection(self.visual(images))
        return projected.view(len(projected), self.prefix_tokens, -1)

    def logits(self, known: Tensor) -> Tensor:
        """Map (..., text width) of the decoder to (..., vocabulary)."""
        return F.linear(known, self.text.token_embedding.weight)

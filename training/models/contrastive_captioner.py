"""Contrast and caption with one model: CoCa (Yu et al., arXiv 2205.01917).

The text transformer is cut in two. Its first half sees the text only, and ends with a class token whose output is the
text's embedding; its second half goes on from there, attends to the image too, and predicts the text. The image tower
is pooled twice: to the image's embedding, and to the tokens that the second half attends to. One pass serves both
losses, as attention is causal: what predicts a token has not seen it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.models.blocks import Style, Transformer
from openwit.training.models.clip import INITIAL_LOGIT_SCALE, style_of
from openwit.training.models.pooling import TokenPooling
from openwit.training.models.text import TextTransformer
from openwit.training.models.token_terms import token_terms
from openwit.training.models.vit import VisionTransformer

MOST_IMAGE_TOKENS = 256
"""Tokens into which the paper pools an image for the captions."""


class PatchTower(VisionTransformer):
    """CLIP's image tower, to the last tensor, which also returns its patches."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Map (B, 3, H, W), normalised, to (B, embed_dim), not of unit length, and (B, N, width), normalised."""
        patches = self.ln_post(self._blocks(images))
        pooled = self._pooled(patches)
        return pooled if self.proj is None else pooled @ self.proj, patches


class UnimodalText(TextTransformer):
    """The half that sees the text only. A learned class token after the end of text gathers the text's embedding.

    It stands directly after the end, before the padding, so that causal attention hides the padding from it.
    """

    def __init__(self, spec: TextSpec, embed_dim: int, style: Style) -> None:
        super().__init__(spec, embed_dim, style)
        self.cls_embedding = nn.Parameter(0.01 * torch.randn(spec.width))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Map (B, L) ids to (B, embed_dim), not of unit length, and the (B, L + 1, width) of the last block.

        The latter is not cut here to L rows, as FSDP2 warns of results that are views.
        """
        after = tokens.argmax(dim=1) + 1
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        places = torch.arange(tokens.shape[1] + 1, device=tokens.device)
        is_class = (places == after[:, None]).unsqueeze(-1)
        x = self.transformer(torch.where(is_class, self.cls_embedding, F.pad(x, (0, 0, 0, 1))))
        return self._projected(x[torch.arange(len(x), device=x.device), after]), x


class MultimodalDecoder(nn.Module):
    """The half that attends to the image too and predicts the text; its output matrix is its own, as in the paper.

    Args:
        spec: sizes; `spec.text` has the width of the blocks.
        layers: number of blocks.
        image_tokens: into which the patches are pooled.
    """

    def __init__(self, spec: ClipSpec, layers: int, image_tokens: int) -> None:
        super().__init__()
        text, style = spec.text, style_of(spec, spec.text)
        assert isinstance(spec.vision, VisionSpec)
        self.pool = TokenPooling(
            spec.vision.width, spec.vision.heads, tokens=image_tokens, out_width=text.width, style=style
        )
        self.transformer = Transformer(text.width, layers, text.heads, causal=True, style=style, cross=True)
        self.ln_final = nn.LayerNorm(text.width, style.eps)
        self.to_vocabulary = nn.Linear(text.width, text.vocabulary, bias=False)
        nn.init.normal_(self.to_vocabulary.weight, std=text.width**-0.5)

    def forward(self, patches: Tensor, words: Tensor, tokens: Tensor) -> Tensor:
        """Return the (b, 3) of `token_terms`.

        The logits are part of this pass, as sharded weights are whole within it only.

        Args:
            patches: (b, N, width of the image tower).
            words: (b, L + 1, width) of `UnimodalText`.
            tokens: (b, L) ids.
        """
        known = self.ln_final(self.transformer(words[:, :-2], self.pool(patches)))
        return self.terms(known, tokens)

    def terms(self, known: Tensor, tokens: Tensor) -> Tensor:
        """Compare what predicts each next token with it; never compiled (`openwit.training.engine.build_model`)."""
        return token_terms(self.to_vocabulary, known, tokens, self.to_vocabulary.out_features)


class ContrastiveCaptioner(nn.Module):
    """Image tower, text tower and decoder. Embeddings are of unit length in float32, also under autocast.

    Args:
        spec: sizes, with patches and causal text.
        patch_dropout: see `VisionTransformer`.
        image_tokens: into which an image is pooled for the captions; None: `MOST_IMAGE_TOKENS`, or the number of
            patches if it is smaller.
        multimodal_layers: blocks of the decoder; None: as many as the text tower has.
        init_logit_scale: see `Clip`.

    Example:
        >>> model = ContrastiveCaptioner(spec_of("vit-tiny-64"))
        >>> images, texts, terms = model.pairs(images, tokens)
    """

    def __init__(
        self,
        spec: ClipSpec,
        patch_dropout: float = 0.0,
        *,
        image_tokens: int | None = None,
        multimodal_layers: int | None = None,
        init_logit_scale: float = INITIAL_LOGIT_SCALE,
    ) -> None:
        super().__init__()
        assert isinstance(spec.vision, VisionSpec)
        self.spec = spec
        self.inputs = spec.inputs
        self.visual = PatchTower(spec.vision, spec.embed_dim, style_of(spec, spec.vision), patch_dropout)
        self.text = UnimodalText(spec.text, spec.embed_dim, style_of(spec, spec.text))
        pooled = min(MOST_IMAGE_TOKENS, spec.vision.patches) if image_tokens is None else image_tokens
        self.decoder = MultimodalDecoder(spec, multimodal_layers or spec.text.layers, pooled)
        self.logit_scale = nn.Parameter(torch.tensor(init_logit_scale))
        self.logit_bias = None

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed images: (B, 3, H, W), normalised, to (B, embed_dim)."""
        return F.normalize(self.visual(images)[0].float(), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embed texts: (B, L) ids to (B, embed_dim)."""
        return F.normalize(self.text(tokens)[0].float(), dim=-1)

    def pairs(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the embeddings of both, and the terms of the captions, see `token_terms`; b rows each."""
        image, patches = self.visual(images)
        text, words = self.text(tokens)
        terms: Tensor = self.decoder(patches, words, tokens)
        return F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1), terms

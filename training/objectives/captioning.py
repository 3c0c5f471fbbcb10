"""Captioning: predict the text from the image, word by word (section 2.3 and figure 2 of arXiv 2103.00020)."""

import torch
from torch import Tensor

from openwit.training.config.model import CustomModelSettings, ModelSettings
from openwit.training.models.build import built_in_spec
from openwit.training.models.captioner import PREFIX_TOKENS, Captioner
from openwit.training.models.token_terms import token_terms
from openwit.training.objectives.base import Group, Inputs, Loss, separable_loss
from openwit.training.objectives.words import ends

# Pairs of image and text that `score` sends through the decoder at once.
SCORED_PAIRS = 1024


class CaptioningObjective:
    """Cross-entropy per token of the caption, including the end of text, mean over all tokens of the batch.

    Each token is predicted from the true tokens before it and the image. Padding is ignored. As captions differ in
    length, the mean over the batch is not the mean of the chunks' means: chunks are weighted by `num_terms`.

    Args:
        prefix_tokens: number of tokens per image.
    """

    embeds = False
    separable = True
    max_logit_scale: float | None = None

    def __init__(self, *, prefix_tokens: int = PREFIX_TOKENS) -> None:
        self.prefix_tokens = prefix_tokens

    def guess_loss(self, batch_size: int) -> float | None:  # noqa: ARG002
        """See `Objective`."""
        return None

    def build_model(self, settings: ModelSettings | CustomModelSettings) -> Captioner:
        """See `Objective`."""
        spec, patch_dropout = built_in_spec(settings, objective="captioning")
        return Captioner(spec, patch_dropout, self.prefix_tokens)

    def num_terms(self, inputs: Inputs) -> Tensor:
        """See `Objective`: number of tokens to predict."""
        return ends(inputs.tokens).sum().float()

    def embed(self, model: Captioner, inputs: Inputs) -> tuple[Tensor]:
        """Return (b, 3): sum of the tokens' cross-entropies, their number, how many were predicted correctly."""
        return (_terms(model, model.prefix(inputs.images), inputs.tokens),)

    def loss(
        self,
        model: Captioner,  # noqa: ARG002
        outputs: tuple[Tensor, ...],
        inputs: Inputs,  # noqa: ARG002
        group: Group | None,
    ) -> Loss:
        """See `Objective`."""
        return separable_loss(outputs[0], group, metric="token_accuracy")

    def after_step(self, model: Captioner) -> None:
        """No-op: no parameter is bounded."""

    @torch.no_grad()
    def score(self, model: Captioner, images: Tensor, tokens: Tensor) -> Tensor:
        """Return the log-likelihood of each text given each image, summed over its tokens.

        A column holds the same text for different images, so it is comparable; within a row, short and common texts
        have an advantage, as in the data. Every pair goes through the decoder: B * C captions are scored.
        """
        prefix = model.prefix(images)
        scores = torch.empty(len(images), len(tokens), device=images.device)
        step = max(1, SCORED_PAIRS // len(images))
        for start in range(0, len(tokens), step):
            texts = tokens[start : start + step]
            texts = texts[:, : int(ends(texts).max()) + 1]
            terms = _terms(model, prefix.repeat_interleave(len(texts), dim=0), texts.repeat(len(images), 1))
            scores[:, start : start + step] = -terms[:, 0].view(len(images), len(texts))
        return scores


def _terms(model: Captioner, prefix: Tensor, tokens: Tensor) -> Tensor:
    """Map (b, P, width) and (b, L) to (b, 3), see `CaptioningObjective.embed`."""
    return token_terms(model.logits, model.text(prefix, tokens[:, :-1]), tokens, model.spec.text.vocabulary)

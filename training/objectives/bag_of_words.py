"""Bag-of-words prediction: which words the caption contains (section 2.3 and figure 2 of arXiv 2103.00020).

The paper cites Joulin et al. (arXiv 1511.02251) without details. Their loss is the multi-class logistic loss: a
softmax over the vocabulary whose target is spread over the words that occur. Here it is spread evenly over the
distinct words, so that a long caption has the same weight as a short one. The alternative, one sigmoid per word, must
first learn that nearly all of the 49,408 words are absent from nearly every caption, while the softmax compares words
with each other from the start. Words are the tokenizer's ids without start and end of text.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from openwit.training.config.model import CustomModelSettings, ModelSettings
from openwit.training.models.bag_of_words import BagOfWords
from openwit.training.models.build import built_in_spec
from openwit.training.objectives.base import Group, Inputs, Loss, separable_loss
from openwit.training.objectives.words import distinct_word_weights


class BagOfWordsObjective:
    """Cross-entropy between the predicted and the caption's words, mean over the samples that have any."""

    embeds = False
    separable = True
    max_logit_scale: float | None = None

    def guess_loss(self, batch_size: int) -> float | None:  # noqa: ARG002
        """See `Objective`."""
        return None

    def build_model(self, settings: ModelSettings | CustomModelSettings) -> BagOfWords:
        """See `Objective`."""
        spec, patch_dropout = built_in_spec(settings, objective="bag_of_words")
        return BagOfWords(spec, patch_dropout)

    def num_terms(self, inputs: Inputs) -> Tensor:
        """See `Objective`: number of samples whose text has a word."""
        return (distinct_word_weights(inputs.tokens).sum(dim=1) > 0).sum().float()

    def embed(self, model: BagOfWords, inputs: Inputs) -> tuple[Tensor]:
        """Return (b, 3): cross-entropy, whether the text has a word, and whether the likeliest word is one of them."""
        weights = distinct_word_weights(inputs.tokens)
        log_probabilities = F.log_softmax(model(inputs.images).float(), dim=1)
        entropy = -(log_probabilities.gather(1, inputs.tokens) * weights).sum(dim=1)
        likeliest = log_probabilities.detach().argmax(dim=1, keepdim=True)
        right = ((inputs.tokens == likeliest) & (weights > 0)).any(dim=1)
        return (torch.stack([entropy, (weights > 0).any(dim=1).float(), right.float()], dim=1),)

    def loss(
        self,
        model: BagOfWords,  # noqa: ARG002
        outputs: tuple[Tensor, ...],
        inputs: Inputs,  # noqa: ARG002
        group: Group | None,
    ) -> Loss:
        """See `Objective`."""
        return separable_loss(outputs[0], group, metric="word_accuracy")

    def after_step(self, model: BagOfWords) -> None:
        """No-op: no parameter is bounded."""

    @torch.no_grad()
    def score(self, model: BagOfWords, images: Tensor, tokens: Tensor) -> Tensor:
        """Return the mean log-probability of a text's distinct words (minus the loss); 0 for a text without words.

        A column holds the same words for different images, so it is comparable; within a row, texts of common words
        have an advantage, as in the data.
        """
        log_probabilities = F.log_softmax(model(images).float(), dim=1)
        weights = distinct_word_weights(tokens)
        return F.embedding_bag(tokens, log_probabilities.T.contiguous(), per_sample_weights=weights, mode="sum").T

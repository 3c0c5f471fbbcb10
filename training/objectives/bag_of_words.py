"""Bag-of-words prediction: which words does the caption hold (section 2.3 and figure 2 of arXiv 2103.00020)?

The paper takes it from Joulin et al. (arXiv 1511.02251) and says no more of it. Theirs is the multi-class logistic
loss: a softmax over the vocabulary whose target is spread over the words that occur. So is this, spread evenly over
the distinct ones, so that a long caption weighs no more than a short one. One sigmoid a word is the other way; it has
to learn first that nearly all of the 49,408 words are absent from nearly every caption, where the softmax compares
words with each other from the start. Words are the tokenizer's ids, start and end of text left out.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from openwit.training.models.bag_of_words import BagOfWords
from openwit.training.objectives.base import Group, Inputs, Loss, mean_of_terms
from openwit.training.objectives.words import distinct_word_weights


class BagOfWordsObjective:
    """Cross-entropy between the predicted and the caption's words, mean over the samples that have any."""

    separable = True

    def units(self, inputs: Inputs) -> Tensor:
        """See `Objective`: samples whose text has a word."""
        return (distinct_word_weights(inputs.tokens).sum(dim=1) > 0).sum().float()

    def embed(self, model: BagOfWords, inputs: Inputs) -> tuple[Tensor]:
        """(b, 3): cross-entropy, whether the text has a word, and whether the likeliest word is one of them."""
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
        return mean_of_terms(outputs[0], group, "word_accuracy")

    def after_step(self, model: BagOfWords) -> None:
        """Nothing: no parameter is bounded."""

    @torch.no_grad()
    def score(self, model: BagOfWords, images: Tensor, tokens: Tensor) -> Tensor:
        """Mean log-probability of a text's distinct words, the negative of the loss; a text without words gets 0.

        In a column, the same words of different images, so comparable; in a row texts of common words have an
        advantage, as they have in the data.
        """
        log_probabilities = F.log_softmax(model(images).float(), dim=1)
        weights = distinct_word_weights(tokens)
        return F.embedding_bag(tokens, log_probabilities.T.contiguous(), per_sample_weights=weights, mode="sum").T

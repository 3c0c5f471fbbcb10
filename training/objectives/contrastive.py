"""The paper's objective: tell the batch's true pairs from all others, in both directions (section 2.3, figure 3)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from openwit.training.models.clip import Clip
from openwit.training.objectives.base import Group, Inputs, Loss, first_row, summed_over_blocks

__all__ = [
    "ContrastiveObjective",
    "Loss",
    "contrastive_loss",
    "local_contrastive_loss",
    "pair_targets",
    "text_numbers",
]

Positives = Literal["pair", "same_text"]


def contrastive_loss(images: Tensor, texts: Tensor, logit_scale: Tensor, targets: Tensor) -> Loss:
    """Symmetric cross-entropy of the similarities, computed in float32: the definition, of one process.

    A function of embeddings only, so that a large batch can be embedded in pieces and the loss taken once.

    Args:
        images: (B, D), unit length.
        texts: (B, D), unit length.
        logit_scale: logarithm of the similarities' multiplier.
        targets: (B, B), row i the distribution over texts that image i is to find; symmetric in its support.
    """
    with torch.autocast(images.device.type, enabled=False):
        logits = logit_scale.float().exp() * images.float() @ texts.float().T
        value = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets.T)) / 2
    with torch.no_grad():
        right = targets.gather(1, logits.argmax(dim=1, keepdim=True)) > 0
    return Loss(value, {"batch_accuracy": right.float().mean()})


def pair_targets(tokens: Tensor, positives: Positives) -> Tensor:
    """(B, L) token ids to (B, B) targets.

    `pair` is the identity. `same_text` spreads a row's weight evenly over all texts equal to its own (Yang et al.,
    arXiv 2204.03610), so that equal captions are not pushed apart; where all texts differ it is the identity too.
    """
    if positives == "pair":
        return torch.eye(len(tokens), device=tokens.device)
    return _evenly(text_numbers(tokens), text_numbers(tokens))


def text_numbers(tokens: Tensor) -> Tensor:
    """(B, L) token ids to (B,) numbers that are equal exactly where the texts are."""
    numbers: Tensor = torch.unique(tokens, dim=0, return_inverse=True)[1]
    return numbers


def local_contrastive_loss(
    own: tuple[Tensor, Tensor],
    every: tuple[Tensor, Tensor],
    logit_scale: Tensor,
    first: int,
    numbers: Tensor | None = None,
) -> Loss:
    """A rank's share of the loss: its own rows against all columns, in both directions, over the size of the batch.

    The matrix of similarities is computed in blocks of rows where it is large, so memory grows with the batch and not
    with its square. The shares of all ranks add up to `contrastive_loss` of the whole.

    Args:
        own: images and texts of this rank, (b, D) each, unit length.
        every: those of all ranks in rank order, (B, D) each.
        logit_scale: logarithm of the similarities' multiplier.
        first: which of all rows is the first of this rank.
        numbers: (B,) of all texts (`text_numbers`), for `same_text`; None counts only an image's own text.
    """
    rows, columns = len(own[0]), len(every[0])
    with torch.autocast(own[0].device.type, enabled=False):
        scale = logit_scale.float().exp()
        images, texts, all_images, all_texts = (part.float() for part in (*own, *every))

        def block(start: int, stop: int) -> tuple[Tensor, ...]:
            labels = torch.arange(first + start, first + stop, device=images.device)
            targets = labels if numbers is None else _evenly(numbers[labels], numbers)
            to_text = scale * images[start:stop] @ all_texts.T
            to_image = scale * texts[start:stop] @ all_images.T
            value = F.cross_entropy(to_text, targets, reduction="sum")
            value = value + F.cross_entropy(to_image, targets, reduction="sum")
            with torch.no_grad():
                found = to_text.argmax(dim=1)
                right = found == labels if numbers is None else numbers[found] == numbers[labels]
            return value, right.sum().float()

        value, right = summed_over_blocks(block, rows, columns)
    return Loss(value / (2 * columns), {"batch_accuracy": right / columns})


class ContrastiveObjective:
    """The loss over all pairs of the batch, whichever rank they are on.

    Args:
        positives: which texts count as an image's own; see `pair_targets`.
    """

    separable = False

    def __init__(self, positives: Positives) -> None:
        self.positives: Positives = positives

    def units(self, inputs: Inputs) -> Tensor:
        """See `Objective`: samples."""
        return inputs.images.new_full((), len(inputs.images), dtype=torch.float32)

    def embed(self, model: Clip, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Embeddings of images and texts, (b, D) each, unit length."""
        return model.encode_image(inputs.images), model.encode_text(inputs.tokens)

    def loss(self, model: Clip, outputs: tuple[Tensor, ...], inputs: Inputs, group: Group | None) -> Loss:
        """See `Objective`."""
        images, texts = outputs
        every, first, tokens = (images, texts), 0, inputs.tokens
        if group is not None:
            every = (group.gather_with_grad(images), group.gather_with_grad(texts))
            first = first_row(len(images), group)
        if self.positives == "pair":
            return local_contrastive_loss((images, texts), every, model.logit_scale, first)
        if group is not None:
            # Ranks trim their texts to different lengths; all have room in the context.
            tokens = group.gather_with_grad(F.pad(tokens, (0, model.spec.text.context_length - tokens.shape[1])))
        return local_contrastive_loss((images, texts), every, model.logit_scale, first, text_numbers(tokens))

    def after_step(self, model: Clip) -> None:
        """Keeps the multiplier of the logits at 100 or less (paper section 2.5)."""
        model.clamp_logit_scale()

    @torch.no_grad()
    def score(self, model: Clip, images: Tensor, tokens: Tensor) -> Tensor:
        """Cosines, comparable in rows and columns."""
        return model.encode_image(images) @ model.encode_text(tokens).T

    def backward(self, model: Clip, images: Tensor, tokens: Tensor, autocast: torch.autocast) -> Loss:
        """Computes the loss of one batch and adds its gradients to the parameters'.

        Args:
            model: in training mode.
            images: (B, 3, H, W), normalised.
            tokens: (B, L).
            autocast: precision of the towers.
        """
        inputs = Inputs(images, tokens)
        with autocast:
            outputs = self.embed(model, inputs)
        loss = self.loss(model, outputs, inputs, None)
        loss.value.backward()  # type: ignore[no-untyped-call]
        return loss


def _evenly(own: Tensor, every: Tensor) -> Tensor:
    """(b,) and (B,) numbers to (b, B): each row's weight spread over the columns of the same number."""
    same = (own[:, None] == every[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)

"""Contrastive objective of the paper: symmetric cross-entropy over all pairs of a batch (section 2.3, figure 3)."""

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from openwit.training.objectives.base import (
    EmbeddingObjective,
    Group,
    Inputs,
    Loss,
    gathered,
    sample_counts,
    sum_blocks,
)

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
    """Compute the symmetric cross-entropy of the similarities in float32: the definition, for one process.

    A function of embeddings only, so that a large batch can be embedded in chunks and the loss computed once.

    Args:
        images: (B, D), unit length.
        texts: (B, D), unit length.
        logit_scale: logarithm of the similarities' factor.
        targets: (B, B), row i is the target distribution over texts of image i; symmetric in its support.
    """
    with torch.autocast(images.device.type, enabled=False):
        logits = logit_scale.float().exp() * images.float() @ texts.float().T
        value = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets.T)) / 2
    with torch.no_grad():
        right = targets.gather(1, logits.argmax(dim=1, keepdim=True)) > 0
    return Loss(value, {"batch_accuracy": right.float().mean()})


def pair_targets(tokens: Tensor, positives: Positives) -> Tensor:
    """Return the (B, B) targets of (B, L) token ids.

    `pair` is the identity. `same_text` spreads a row's weight evenly over all texts equal to its own (Yang et al.,
    arXiv 2204.03610), so that equal captions are not pushed apart; where all texts differ it is the identity too.
    """
    if positives == "pair":
        return torch.eye(len(tokens), device=tokens.device)
    return _evenly(text_numbers(tokens), text_numbers(tokens))


def text_numbers(tokens: Tensor) -> Tensor:
    """Return (B,) numbers that are equal exactly where the texts, (B, L) token ids, are equal."""
    numbers: Tensor = torch.unique(tokens, dim=0, return_inverse=True)[1]
    return numbers


def local_contrastive_loss(
    local: tuple[Tensor, Tensor],
    everywhere: tuple[Tensor, Tensor],
    *,
    logit_scale: Tensor,
    row_offset: int,
    numbers: Tensor | None = None,
) -> Loss:
    """Compute a rank's share of the loss: its rows against all columns, in both directions, over the batch size.

    A large similarity matrix is computed in blocks of rows, so memory grows with the batch and not with its square.
    The sum over ranks is `contrastive_loss` of the whole batch.

    Args:
        local: images and texts of this rank, (b, D) each, unit length.
        everywhere: those of all ranks in rank order, (B, D) each.
        logit_scale: logarithm of the similarities' factor.
        row_offset: index of this rank's first row among all rows.
        numbers: (B,) of all texts (`text_numbers`), for `same_text`; None: only an image's own text is positive.
    """
    rows, columns = len(local[0]), len(everywhere[0])
    with torch.autocast(local[0].device.type, enabled=False):
        scale = logit_scale.float().exp()
        images, texts, all_images, all_texts = (part.float() for part in (*local, *everywhere))

        def block(start: int, stop: int) -> tuple[Tensor, ...]:
            labels = torch.arange(row_offset + start, row_offset + stop, device=images.device)
            targets = labels if numbers is None else _evenly(numbers[labels], numbers)
            to_text = scale * images[start:stop] @ all_texts.T
            to_image = scale * texts[start:stop] @ all_images.T
            value = F.cross_entropy(to_text, targets, reduction="sum")
            value = value + F.cross_entropy(to_image, targets, reduction="sum")
            with torch.no_grad():
                found = to_text.argmax(dim=1)
                right = found == labels if numbers is None else numbers[found] == numbers[labels]
            return value, right.sum().float()

        value, right = sum_blocks(block, rows, columns=columns)
    return Loss(value / (2 * columns), {"batch_accuracy": right / columns})


class ContrastiveObjective(EmbeddingObjective):
    """Symmetric cross-entropy over all pairs of the batch, across ranks.

    Args:
        positives: which texts count as positives of an image; see `pair_targets`.
        logit_scale: initial factor of the similarities; None: 1 / 0.07.
    """

    max_logit_scale = 100.0  # paper section 2.5

    def __init__(self, positives: Positives = "pair", *, logit_scale: float | None = None) -> None:
        self.positives: Positives = positives
        if logit_scale is not None:
            self.initial_logit_scale = math.log(logit_scale)

    def guess_loss(self, batch_size: int) -> float | None:
        """See `Objective`."""
        return math.log(batch_size)

    def loss(self, model: Any, outputs: tuple[Tensor, ...], inputs: Inputs, group: Group | None) -> Loss:
        """See `Objective`."""
        images, texts = outputs
        (all_images, all_texts), offset = gathered((images, texts), group, counts=sample_counts(group))
        pairs = (images, texts), (all_images, all_texts)
        if self.positives == "pair":
            return local_contrastive_loss(*pairs, logit_scale=model.logit_scale, row_offset=offset)
        tokens = inputs.tokens
        if group is not None:
            # Ranks trim their texts to different lengths, all within the context length.
            padded = F.pad(tokens, (0, model.inputs.context_length - tokens.shape[1]))
            tokens = group.gather_with_grad(padded, group.sizes)
        numbers = text_numbers(tokens)
        return local_contrastive_loss(*pairs, logit_scale=model.logit_scale, row_offset=offset, numbers=numbers)


def _evenly(rows: Tensor, columns: Tensor) -> Tensor:
    """Spread each row's weight over the columns of the same number: (b,) and (B,) to (b, B)."""
    same = (rows[:, None] == columns[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)

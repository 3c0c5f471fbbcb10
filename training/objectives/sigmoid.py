"""SigLIP's objective: a binary classification of every pair of the batch (Zhai et al., arXiv 2303.15343)."""

import math
from typing import Any

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

# Section 3.2 of the source: with these, training begins near the prior, in which hardly any pair is positive.
INITIAL_LOGIT_SCALE = math.log(10)
INITIAL_LOGIT_BIAS = -10.0


def sigmoid_loss(
    images: Tensor, texts: Tensor, *, logit_scale: Tensor, logit_bias: Tensor, row_offset: int = 0
) -> Loss:
    """Compute -log sigmoid(z (t x.y + b)), summed over all pairs and divided by the number of samples, in float32.

    z is 1 on the diagonal and -1 elsewhere. A large matrix is computed in blocks of rows, so memory
    grows with the batch and not with its square.

    Args:
        images: (b, D), unit length; of one rank, or all.
        texts: (B, D), unit length; of all ranks in rank order.
        logit_scale: logarithm of t.
        logit_bias: b.
        row_offset: column of the first image's own text.
    """
    rows, columns = len(images), len(texts)
    with torch.autocast(images.device.type, enabled=False):
        left, right = images.float() * logit_scale.float().exp(), texts.float()
        bias = logit_bias.float()

        def block(start: int, stop: int) -> tuple[Tensor, ...]:
            own = torch.arange(row_offset + start, row_offset + stop, device=images.device)
            logits = left[start:stop] @ right.T + bias
            true = logits.gather(1, own[:, None])
            # Signs by position, so that no matrix of them is needed; -log sigmoid of each term, to avoid cancellation.
            value = -F.logsigmoid((-logits).scatter(1, own[:, None], true)).sum()
            with torch.no_grad():
                found = (logits.argmax(dim=1) == own).sum()
            return value, found.float()

        value, found = sum_blocks(block, rows, columns=columns)
    return Loss(value / columns, {"batch_accuracy": found / columns})


class SigmoidObjective(EmbeddingObjective):
    """Binary cross-entropy of all pairs of the batch, across ranks. The model has `logit_bias`.

    Neither logit scale nor bias is bounded, as in the source.

    Args:
        logit_scale: initial factor of the similarities; None: 10.
        logit_bias: initial bias; None: -10.
    """

    def __init__(self, *, logit_scale: float | None = None, logit_bias: float | None = None) -> None:
        self.initial_logit_scale = INITIAL_LOGIT_SCALE if logit_scale is None else math.log(logit_scale)
        self.initial_logit_bias = INITIAL_LOGIT_BIAS if logit_bias is None else logit_bias

    def loss(
        self,
        model: Any,
        outputs: tuple[Tensor, ...],
        inputs: Inputs,  # noqa: ARG002
        group: Group | None,
    ) -> Loss:
        """See `Objective`: this rank's images against the texts of all ranks."""
        images, texts = outputs
        (all_texts,), offset = gathered((texts,), group, counts=sample_counts(group))
        scale, bias = model.logit_scale, model.logit_bias
        return sigmoid_loss(images, all_texts, logit_scale=scale, logit_bias=bias, row_offset=offset)

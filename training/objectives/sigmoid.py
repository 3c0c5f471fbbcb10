"""SigLIP's objective: every pair of the batch is judged by itself, true or not (Zhai et al., arXiv 2303.15343)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from openwit.training.models.clip import Clip
from openwit.training.objectives.base import Group, Inputs, Loss, first_row, summed_over_blocks

# Section 3.2 of the source: with these, training begins near the prior, in which hardly any pair is a true one.
INITIAL_LOGIT_SCALE = math.log(10)
INITIAL_LOGIT_BIAS = -10.0


def sigmoid_loss(images: Tensor, texts: Tensor, logit_scale: Tensor, logit_bias: Tensor, first: int = 0) -> Loss:
    """-log sigmoid(z (t x.y + b)) added up over all pairs, divided by the number of samples, computed in float32.

    z is 1 on the diagonal and -1 elsewhere. The matrix is computed in blocks of rows where it is large, so memory
    grows with the batch and not with its square.

    Args:
        images: (b, D), unit length; of one rank, or all.
        texts: (B, D), unit length; of all ranks in rank order.
        logit_scale: logarithm of t.
        logit_bias: b.
        first: column of the first image's own text.
    """
    rows, columns = len(images), len(texts)
    with torch.autocast(images.device.type, enabled=False):
        left, right = images.float() * logit_scale.float().exp(), texts.float()
        bias = logit_bias.float()

        def block(start: int, stop: int) -> tuple[Tensor, ...]:
            own = torch.arange(first + start, first + stop, device=images.device)
            logits = left[start:stop] @ right.T + bias
            true = logits.gather(1, own[:, None])
            # Signs by place, so that no matrix of them is held; and -log sigmoid of each, so that nothing cancels.
            value = -F.logsigmoid((-logits).scatter(1, own[:, None], true)).sum()
            with torch.no_grad():
                found = (logits.argmax(dim=1) == own).sum()
            return value, found.float()

        value, found = summed_over_blocks(block, rows, columns)
    return Loss(value / columns, {"batch_accuracy": found / columns})


class SigmoidObjective:
    """The loss over all pairs of the batch, whichever rank they are on. The model has `logit_bias`."""

    separable = False

    def units(self, inputs: Inputs) -> Tensor:
        """See `Objective`: samples."""
        return inputs.images.new_full((), len(inputs.images), dtype=torch.float32)

    def embed(self, model: Clip, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Embeddings of images and texts, (b, D) each, unit length."""
        return model.encode_image(inputs.images), model.encode_text(inputs.tokens)

    def loss(
        self,
        model: Clip,
        outputs: tuple[Tensor, ...],
        inputs: Inputs,  # noqa: ARG002
        group: Group | None,
    ) -> Loss:
        """See `Objective`: this rank's images against the texts of all."""
        assert model.logit_bias is not None, "made by registry.make_model"
        images, texts = outputs
        first = 0
        if group is not None:
            first = first_row(len(images), group)
            texts = group.gather_with_grad(texts)
        return sigmoid_loss(images, texts, model.logit_scale, model.logit_bias, first)

    def after_step(self, model: Clip) -> None:
        """Nothing: the source leaves temperature and bias free."""

    @torch.no_grad()
    def score(self, model: Clip, images: Tensor, tokens: Tensor) -> Tensor:
        """Cosines, which rank as the probabilities do; comparable in rows and columns."""
        return model.encode_image(images) @ model.encode_text(tokens).T

"""The paper's objective: tell the batch's true pairs from all others, in both directions (section 2.3, figure 3)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from training.models.clip import Clip


@dataclass(frozen=True)
class Loss:
    """The loss of a batch (a scalar with a gradient) and figures worth logging."""

    value: Tensor
    metrics: dict[str, Tensor]


def contrastive_loss(images: Tensor, texts: Tensor, logit_scale: Tensor, targets: Tensor) -> Loss:
    """Symmetric cross-entropy of the similarities, computed in float32.

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


def pair_targets(tokens: Tensor, positives: Literal["pair", "same_text"]) -> Tensor:
    """(B, L) token ids to (B, B) targets.

    `pair` is the identity. `same_text` spreads a row's weight evenly over all texts equal to its own (Yang et al.,
    arXiv 2204.03610), so that equal captions are not pushed apart; where all texts differ it is the identity too.
    """
    if positives == "pair":
        return torch.eye(len(tokens), device=tokens.device)
    same = (tokens[:, None, :] == tokens[None, :, :]).all(dim=-1).float()
    return same / same.sum(dim=1, keepdim=True)


class ContrastiveObjective:
    """Batch to gradients. The loop asks an objective for no more than `backward`."""

    def __init__(self, positives: Literal["pair", "same_text"]) -> None:
        self.positives: Literal["pair", "same_text"] = positives

    def backward(self, model: Clip, images: Tensor, tokens: Tensor, autocast: torch.autocast) -> Loss:
        """Computes the loss of one batch and adds its gradients to the parameters'.

        Args:
            model: in training mode.
            images: (B, 3, H, W), normalised.
            tokens: (B, L).
            autocast: precision of the towers.
        """
        with autocast:
            image_embeddings = model.encode_image(images)
            text_embeddings = model.encode_text(tokens)
        loss = contrastive_loss(
            image_embeddings, text_embeddings, model.logit_scale, pair_targets(tokens, self.positives)
        )
        loss.value.backward()  # type: ignore[no-untyped-call]
        return loss

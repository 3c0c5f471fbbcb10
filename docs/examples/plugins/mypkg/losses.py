"""An objective: `loss` sees the embeddings of the whole batch, over all processes."""

import torch

from openwit.training.api import EmbeddingObjective, Loss, gathered


class Margin(EmbeddingObjective):
    """Penalise the hardest wrong text of each image (VSE++, arXiv 1707.05612, in one direction)."""

    def __init__(self, *, margin=0.2):
        self.margin = margin

    def loss(self, model, outputs, inputs, group):
        """Return this process's share of the loss: the sum over its own images, divided by the whole batch."""
        (_, texts), first = gathered(outputs, group)
        scores = outputs[0] @ texts.T
        own = torch.arange(len(scores), device=scores.device) + first
        right = scores.gather(1, own[:, None])
        wrong = scores.scatter(1, own[:, None], -1).amax(dim=1, keepdim=True)
        return Loss((self.margin + wrong - right).clamp(min=0).sum() / len(texts), {})

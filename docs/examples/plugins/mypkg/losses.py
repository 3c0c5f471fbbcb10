"""An objective: `loss` sees the embeddings of the whole batch, over all processes."""

import torch

from openwit.training.api import EmbeddingObjective, Loss, gathered


class Margin(EmbeddingObjective):
    """Penalise the hardest wrong text of each image (VSE++, arXiv 1707.05612, in one direction)."""

    def __init__(self, *, margin=0.2):
        self.margin = margin

    def loss(self, model, outputs, inputs, group):
        """Return the sum over this process's images, as a share of the batch."""
        (images, texts), (every_image, every_text) = outputs, gathered(outputs, group)[0]
        scores = images @ every_text.T
        wrong = scores.masked_fill(torch.eye(len(images), len(every_text)).bool(), -1).amax(dim=1)
        return Loss((self.margin + wrong - scores.diagonal()).clamp(min=0).sum() / len(every_text), {})

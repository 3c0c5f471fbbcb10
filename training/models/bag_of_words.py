"""Predict words from an image: CLIP's image tower and a linear map to the vocabulary (figure 2, arXiv 2103.00020)."""

from torch import Tensor, nn

from openwit.training.config.zoo import ClipSpec
from openwit.training.models.clip import image_tower


class BagOfWords(nn.Module):
    """Logits of the vocabulary's words for an image.

    The map takes CLIP's image embedding, projected but not normalised to unit length, so `visual` is CLIP's tower to
    the last tensor. Of `spec.text` only the vocabulary is used.

    Example:
        >>> model = BagOfWords(spec_of("vit-tiny-64"))
        >>> logits = model(images)
    """

    def __init__(self, spec: ClipSpec, patch_dropout: float = 0.0) -> None:
        super().__init__()
        self.spec = spec
        self.inputs = spec.inputs
        self.visual = image_tower(spec, patch_dropout)
        self.head = nn.Linear(spec.embed_dim, spec.text.vocabulary)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W), normalised, to (B, vocabulary)."""
        logits: Tensor = self.head(self.visual(images))
        return logits

"""A model: any module with `encode_image` and `encode_text`."""

import torch


class Flat(torch.nn.Module):
    """Embed pixels by one linear map, and texts by the mean of their tokens."""

    def __init__(self, image_size, vocabulary, width):
        super().__init__()
        self.image = torch.nn.Linear(3 * image_size**2, width)
        self.words = torch.nn.EmbeddingBag(vocabulary, width)

    def encode_image(self, images):
        """(N, 3, H, W) float -> (N, width)."""
        return self.image(images.flatten(1))

    def encode_text(self, tokens):
        """(N, L) token ids -> (N, width)."""
        return self.words(tokens)

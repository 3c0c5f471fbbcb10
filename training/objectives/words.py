"""Find the tokens of a row that are words: not the start, not the end, not the padding.

Tokens are identified by position, not by id, because the padding's id, 0, is also that of a word ("!"): a text begins
with the start token and ends at the largest id of the vocabulary, which is the end token's.
"""

import torch
from torch import Tensor


def ends(tokens: Tensor) -> Tensor:
    """Map (B, L) ids to (B,) positions of the end of text."""
    return tokens.argmax(dim=1)


def word_mask(tokens: Tensor) -> Tensor:
    """Map (B, L) ids to (B, L) booleans: true for words."""
    places = torch.arange(tokens.shape[1], device=tokens.device)
    return (places > 0) & (places < ends(tokens)[:, None])


def distinct_word_weights(tokens: Tensor) -> Tensor:
    """Map (B, L) ids to (B, L) float32: 1/K at the first occurrence of each of a row's K distinct words, else 0.

    Rows of texts without words are all 0.
    """
    mask = word_mask(tokens)
    ordered, order = tokens.masked_fill(~mask, -1).sort(dim=1, stable=True)
    first = torch.ones_like(mask)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    distinct = torch.zeros_like(mask).scatter_(1, order, first & (ordered >= 0))
    return distinct.float() / distinct.sum(dim=1, keepdim=True).clamp(min=1)

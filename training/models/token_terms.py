"""Cross-entropy of a text's tokens, of logits that are never held as a whole."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# Logits held in memory at once: 256 MiB in float32.
LOGITS_AT_ONCE = 1 << 26


def token_terms(logits: Callable[[Tensor], Tensor], known: Tensor, tokens: Tensor, vocabulary: int) -> Tensor:
    """Return each text's sum of cross-entropies, number of tokens to predict, and how many were predicted correctly.

    Predicted are all tokens after the first, up to the end of text; padding is not.

    Args:
        logits: (T, width) to (T, vocabulary).
        known: (b, L - 1, width), at position i the features that predict token i + 1.
        tokens: (b, L) ids.
        vocabulary: number of ids.

    Returns:
        (b, 3) float32.
    """
    terms = _counted_terms if tokens.device.type == "cpu" else _dense_terms
    return terms(logits, known, tokens, vocabulary)


def _counted_terms(logits: Callable[[Tensor], Tensor], known: Tensor, tokens: Tensor, vocabulary: int) -> Tensor:
    count, counted, after = _predicted(tokens)
    entropy, right = _entropies(logits, known[counted], after[counted], vocabulary)
    rows = torch.arange(len(tokens), device=tokens.device)[:, None].expand_as(counted)[counted]
    sums = entropy.new_zeros(len(tokens), 2).index_add(0, rows, torch.stack([entropy, right], dim=1))
    return torch.stack([sums[:, 0], count.float(), sums[:, 1]], dim=1)


def _dense_terms(logits: Callable[[Tensor], Tensor], known: Tensor, tokens: Tensor, vocabulary: int) -> Tensor:
    """Return the same without waiting for the device: padding is computed, and left out."""
    count, counted, after = _predicted(tokens)
    entropy, right = _entropies(logits, known.flatten(0, 1), after.flatten(), vocabulary)
    sums = [torch.where(counted, each.view_as(after), 0.0).sum(dim=1) for each in (entropy, right)]
    return torch.stack([sums[0], count.float(), sums[1]], dim=1)


def _predicted(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (b,) number of tokens to predict, (b, L - 1) which they are, and (b, L - 1) the tokens after the first.

    The end of text is the largest id of the vocabulary, so its first occurrence is the row's arg-max.
    """
    count, after = tokens.argmax(dim=1), tokens[:, 1:]
    return count, torch.arange(after.shape[1], device=tokens.device) < count[:, None], after


def _entropies(
    logits: Callable[[Tensor], Tensor], known: Tensor, labels: Tensor, vocabulary: int
) -> tuple[Tensor, Tensor]:
    """Return (T,) cross-entropies and whether the label was the likeliest, float32, of (T, width) and (T,).

    In blocks, each recomputed in the backward pass: the logits of a batch's tokens are its largest tensor by far
    (256 captions of 14 tokens: 0.7 GB, times three with what the gradient keeps).
    """

    def block(part: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        scores = logits(part).float()
        right = (scores.detach().argmax(dim=1) == label).float()
        return F.cross_entropy(scores, label, reduction="none"), right

    step = max(1, LOGITS_AT_ONCE // vocabulary)
    pairs = list(zip(torch.split(known, step), torch.split(labels, step), strict=True))
    if len(pairs) == 1 or not torch.is_grad_enabled():
        parts = [block(*pair) for pair in pairs]
    else:
        parts = [checkpoint(block, *pair, use_reentrant=False, preserve_rng_state=False) for pair in pairs]
    entropies, rights = zip(*parts, strict=True)
    return torch.cat(entropies), torch.cat(rights)

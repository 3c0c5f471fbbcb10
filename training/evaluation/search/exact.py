"""Find the nearest vectors exactly, block by block: memory holds one block and its scores."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray


class Nearest(NamedTuple):
    """The nearest vectors of each query, best first; of equal scores the smaller number first.

    Attributes:
        scores: (Q, k) dot products.
        numbers: (Q, k) rows; -1 where there are fewer vectors.
    """

    scores: NDArray[np.float32]
    numbers: NDArray[np.int64]


_MOST_SCORES = 1 << 24


def exact_search(blocks: Iterable[tuple[int, NDArray[np.float32]]], queries: NDArray[np.float32], k: int) -> Nearest:
    """Return the k vectors of largest dot product with each query. A score that is no number ranks last.

    Args:
        blocks: (number of the first row, (rows, D)) in order.
        queries: (Q, D).
        k: at least 1.
    """
    wanted = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))
    best = Nearest(np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64))
    step = max(1, _MOST_SCORES // max(1, len(queries)))
    for first, block in blocks:
        for start in range(0, len(block), step):
            rows = block[start : start + step]
            part = torch.from_numpy(rows if rows.flags.writeable else rows.copy())  # torch has no read-only tensors
            scores = torch.nan_to_num(wanted @ part.T, nan=-torch.inf, neginf=-torch.inf)
            _merge(best, scores, first + start)
    return best


def _merge(best: Nearest, scores: torch.Tensor, first: int) -> None:
    """Put what belongs to the best of each query among them."""
    k = best.scores.shape[1]
    kept = torch.topk(scores, min(k, scores.shape[1]), dim=1).values.numpy()
    table = scores.numpy()
    for query in range(len(table)):
        # Not below the block's own k-th, nor below what is there: what remains is hardly more than k.
        least = max(kept[query, -1], best.scores[query, -1]) if kept.shape[1] == k else -np.inf
        found = np.flatnonzero(table[query] >= least)
        if not len(found):
            continue
        values = np.concatenate([best.scores[query], table[query, found]])
        numbers = np.concatenate([best.numbers[query], found + first])
        order = np.lexsort((np.where(numbers < 0, np.iinfo(np.int64).max, numbers), -values))[:k]
        best.scores[query], best.numbers[query] = values[order], numbers[order]

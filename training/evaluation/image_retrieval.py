"""Compute image-to-image retrieval: whether an image's nearest other images are of its own group.

The protocol of metric learning (Recall@K as in Oh Song et al., arXiv 1511.06452): every image that has at least one
other image in its group is a query, all images but itself are the gallery, and it is right at k if one of the first k
is of its group. Images alone in their group are in the gallery only. A group is a class, or what is given: the
shots of one object, two copies of one picture. If two scores are equal, the wrong answer is ranked first.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.retrieval import CUTOFFS, Recall, spans
from openwit.training.evaluation.statistics import bootstrap_mean, chance_recall

RULE = "any other image of the query's group among the first k of all other images; equal scores: the wrong one first"


@dataclass(frozen=True)
class ImageRetrievalResult:
    """Recalls in the order of `CUTOFFS`, and the sizes they are based on."""

    images: int
    queries: int
    groups: int
    recalls: list[Recall]


def image_ranks(images: Tensor, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (I,) ranks: images of other groups that score at least as high as the best of the own; -1 without one.

    Args:
        images: (I, D) embeddings of unit length.
        groups: (I,) number of each image's group.
    """
    ranks = np.full(len(images), -1, dtype=np.int64)
    of_group = torch.from_numpy(groups)
    for start, stop in spans(len(images), len(images)):
        scores = images[start:stop] @ images.T
        own = of_group[start:stop, None] == of_group[None, :]
        other = ~own
        own[torch.arange(stop - start), torch.arange(start, stop)] = False
        best = scores.masked_fill(~own, -torch.inf).amax(dim=1, keepdim=True)
        before = (~(scores < best) & other).sum(dim=1)
        found = own.any(dim=1)
        ranks[start:stop][found.numpy()] = before[found].numpy()
    return ranks


def image_retrieval(images: Tensor, groups: NDArray[np.int64], seed: int = 0) -> ImageRetrievalResult:
    """Return recall at 1, 5 and 10 of images among images. Intervals resample groups, with the gallery held fixed.

    Raises:
        DataError: no group has two images.
    """
    ranks = image_ranks(images, groups)
    asked = ranks >= 0
    if not asked.any():
        raise DataError("no group has two readable images, so that no image has another to be found")
    names, of_query = np.unique(groups[asked], return_inverse=True)
    queries = np.bincount(of_query, minlength=len(names)).astype(np.float64)
    recalls = []
    for k in CUTOFFS:
        hits = (ranks[asked] < k).astype(np.float64)
        right = np.bincount(of_query, weights=hits, minlength=len(names)).astype(np.float64)
        interval = bootstrap_mean(right, queries, seed)
        chances = [chance_recall(int(size) - 1, len(images) - 1, k) for size in queries]
        chance = float(np.average(chances, weights=queries))
        recalls.append(Recall(k, float(hits.mean()), interval.low, interval.high, chance))
    return ImageRetrievalResult(len(images), int(asked.sum()), len(names), recalls)

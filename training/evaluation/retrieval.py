"""Compute retrieval metrics: recall at k in both directions, with chance levels and 95% intervals.

Rules, needed because texts repeat on the web:

* text to image, strict: every (image, text) entry is a query, and only its own image is right.
* text to image, shared: the same queries, and every image that carries exactly this text is right.
* image to text, strict: the gallery is all entries; an image finds its text if ANY of its own entries is among the
  first k, as is usual on COCO and Flickr30k. An equal text that belongs to another image is wrong, and as it has the
  same score it is ranked before the right one.
* image to text, shared: as strict, but an equal text of another image is not wrong and does not count in the ranking.

If two scores are equal, the wrong answer is ranked first, so a model that gives the same score to everything has a
recall of zero; so has one whose scores are NaN. If all texts are distinct, the strict and the shared value are equal.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openwit.training.evaluation.embed import EmbeddedSplit
from openwit.training.evaluation.statistics.intervals import bootstrap_mean, chance_recall

CUTOFFS = (1, 5, 10)
DIRECTIONS = ("text_to_image", "image_to_text")
RULES = ("strict", "shared")
_CHUNK_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class Recall:
    """Recall at k: the measured value, its bootstrap 95% interval, and the recall of a random order."""

    k: int
    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class RetrievalResult:
    """Recalls by direction and rule, in the order of `CUTOFFS`, and the sizes they are based on."""

    images: int
    entries: int
    distinct_texts: int
    recalls: dict[str, dict[str, list[Recall]]]

    def at(self, direction: str, rule: str, k: int) -> Recall:
        """Return one value."""
        return next(recall for recall in self.recalls[direction][rule] if recall.k == k)


@dataclass(frozen=True)
class Ranks:
    """Number of wrong answers before the best right one, 0 being best: one array per direction and rule."""

    text_to_image: dict[str, NDArray[np.int64]]  # by rule, (T,) over entries
    image_to_text: dict[str, NDArray[np.int64]]  # by rule, (I,) over images


def rank(split: EmbeddedSplit) -> Ranks:
    """Rank all queries of a split, by dot product."""
    return Ranks(_text_to_image(split), _image_to_text(split))


def retrieval(split: EmbeddedSplit, seed: int = 0) -> RetrievalResult:
    """Recall at 1, 5 and 10 in both directions under both rules (see the module).

    Intervals resample images together with their texts, with the gallery held fixed.
    """
    ranks = rank(split)
    entries = np.bincount(split.entry_image, minlength=len(split.images)).astype(np.float64)
    recalls: dict[str, dict[str, list[Recall]]] = {direction: {} for direction in DIRECTIONS}
    for rule in RULES:
        recalls["text_to_image"][rule] = [
            _recall(k, ranks.text_to_image[rule] < k, split.entry_image, entries, _chance_text(split, rule, k), seed)
            for k in CUTOFFS
        ]
        every = np.arange(len(split.images))
        recalls["image_to_text"][rule] = [
            _recall(k, ranks.image_to_text[rule] < k, every, np.ones(len(every)), _chance_image(split, rule, k), seed)
            for k in CUTOFFS
        ]
    return RetrievalResult(len(split.images), len(split.entry_image), len(split.texts), recalls)


def _recall(
    k: int,
    hits: NDArray[np.bool_],
    image_of_query: NDArray[np.int64],
    queries: NDArray[np.float64],
    chance: float,
    seed: int,
) -> Recall:
    sums = np.bincount(image_of_query, weights=hits.astype(np.float64), minlength=len(queries)).astype(np.float64)
    interval = bootstrap_mean(sums, queries, seed)
    return Recall(k, float(hits.mean()), interval.low, interval.high, chance)


def _text_to_image(split: EmbeddedSplit) -> dict[str, NDArray[np.int64]]:
    """Return (T,) ranks: the number of other images that score at least as high as the right one."""
    strict = np.empty(len(split.entry_text), dtype=np.int64)
    shared = np.empty(len(split.entry_text), dtype=np.int64)
    count = len(split.images)
    by_text = np.argsort(split.entry_text, kind="stable")
    sorted_text = split.entry_text[by_text]
    for start, stop in spans(len(split.texts), count):
        scores = split.texts[start:stop] @ split.images.T
        entries = by_text[np.searchsorted(sorted_text, start) : np.searchsorted(sorted_text, stop)]
        rows, columns = split.entry_text[entries] - start, split.entry_image[entries]
        right = torch.zeros_like(scores, dtype=torch.bool)
        right[rows, columns] = True
        best = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        shared[entries] = (~(scores < best) & ~right).sum(dim=1)[rows].numpy()
        for first, last in spans(len(entries), count):
            r, c = rows[first:last], columns[first:last]
            strict[entries[first:last]] = (~(scores[r] < scores[r, c][:, None])).sum(dim=1).numpy() - 1
    return {"strict": strict, "shared": shared}


def _image_to_text(split: EmbeddedSplit) -> dict[str, NDArray[np.int64]]:
    """Return (I,) ranks: the number of other images' entries that score at least as high as the image's best text."""
    count = len(split.texts)
    copies = torch.from_numpy(np.bincount(split.entry_text, minlength=count))
    strict = np.empty(len(split.images), dtype=np.int64)
    shared = np.empty(len(split.images), dtype=np.int64)
    by_image = np.argsort(split.entry_image, kind="stable")
    sorted_image = split.entry_image[by_image]
    for start, stop in spans(len(split.images), count):
        scores = split.images[start:stop] @ split.texts.T
        entries = by_image[np.searchsorted(sorted_image, start) : np.searchsorted(sorted_image, stop)]
        own = _own_entries(split, entries, start, scores.shape)
        best = scores.masked_fill(own == 0, -torch.inf).amax(dim=1, keepdim=True)
        before = ~(scores < best) * copies
        shared[start:stop] = (before * (own == 0)).sum(dim=1).numpy()
        strict[start:stop] = (~(scores < best) * (copies - own)).sum(dim=1).numpy()
    return {"strict": strict, "shared": shared}


def _own_entries(split: EmbeddedSplit, entries: NDArray[np.int64], start: int, shape: torch.Size) -> Tensor:
    """Return (images, texts): the number of entries that join an image to a text."""
    own = torch.zeros(shape, dtype=torch.int64)
    rows = torch.from_numpy(split.entry_image[entries] - start)
    columns = torch.from_numpy(split.entry_text[entries])
    own.index_put_((rows, columns), torch.ones(len(entries), dtype=torch.int64), accumulate=True)
    return own


def _chance_text(split: EmbeddedSplit, rule: str, k: int) -> float:
    gallery = len(split.images)
    if rule == "strict":
        return chance_recall(1, gallery, k)
    carriers = np.bincount(split.entry_text, minlength=len(split.texts))
    return _mean_chance(carriers[split.entry_text], gallery, k)


def _chance_image(split: EmbeddedSplit, rule: str, k: int) -> float:
    gallery = len(split.entry_text)
    if rule == "strict":
        return _mean_chance(np.bincount(split.entry_image, minlength=len(split.images)), gallery, k)
    copies = np.bincount(split.entry_text, minlength=len(split.texts))
    # Equal texts of other images are not wrong answers, so they count as this image's own.
    relevant = np.bincount(split.entry_image, weights=copies[split.entry_text], minlength=len(split.images))
    return _mean_chance(relevant.astype(np.int64), gallery, k)


def _mean_chance(relevant: NDArray[np.int64], gallery: int, k: int) -> float:
    values, counts = np.unique(relevant, return_counts=True)
    chances = [chance_recall(int(value), gallery, k) for value in values]
    return float(np.average(chances, weights=counts))


def spans(rows: int, columns: int) -> list[tuple[int, int]]:
    """Split rows into spans, so that a block of rows x columns is small in memory."""
    size = max(1, _CHUNK_ELEMENTS // max(1, columns))
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]

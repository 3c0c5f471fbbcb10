"""Choose one of equal pairs and the texts that an image keeps: a function of keys only, the same on any runner."""

import numpy as np

from openwit.pipeline.stages.select import reasons
from openwit.pipeline.stages.select.settings import TextsPerImage

KEPT = 0
DUPLICATE_PAIR = 1
OTHER_TEXT = 2
NO_MATCH = 3
NEAR_EQUAL = 4
DEAD = 5
VERDICT_REASONS = {
    DUPLICATE_PAIR: reasons.DUPLICATE_PAIR,
    OTHER_TEXT: reasons.OTHER_TEXT_OF_IMAGE,
    NO_MATCH: reasons.NO_MATCH,
    NEAR_EQUAL: reasons.NEAR_EQUAL_TEXT,
    DEAD: reasons.DEAD,
}


def choose_winners(
    url_hash: np.ndarray,
    pair: np.ndarray,
    *,
    text_length: np.ndarray,
    tie: np.ndarray,
    texts: TextsPerImage,
    words_hash: np.ndarray | None = None,
) -> np.ndarray:
    """Return a verdict for each row of a bucket that holds all rows of its URLs.

    An empty text is kept only where its image has no other.

    Args:
        url_hash: uint64 (N,).
        pair: uint64 (N,), folded pair ids.
        text_length: int32 (N,), code points.
        tie: uint64 (N,), hash of the whole row.
        texts: `all` keeps every distinct text of an image, `longest` the longest (by hash among equals), `first` the
            one with the smallest pair hash: arbitrary, but always the same.
        words_hash: uint64 (N,); if given, the longest of an image's texts that share it is kept.

    Returns:
        int8 (N,): KEPT, DUPLICATE_PAIR, OTHER_TEXT or NEAR_EQUAL.
    """
    verdict = np.full(len(pair), KEPT, np.int8)
    order = np.lexsort((tie, pair, url_hash))
    verdict[order[_repeats(order, url_hash, pair)]] = DUPLICATE_PAIR
    if not text_length.all():
        described = np.unique(url_hash[text_length > 0])
        verdict[(verdict == KEPT) & (text_length == 0) & np.isin(url_hash, described)] = OTHER_TEXT
    longest = -text_length.astype(np.int64)
    if words_hash is not None:
        left = np.flatnonzero(verdict == KEPT)
        order = left[np.lexsort((pair[left], longest[left], words_hash[left], url_hash[left]))]
        verdict[order[_repeats(order, url_hash, words_hash)]] = NEAR_EQUAL
    if texts != "all":
        left = np.flatnonzero(verdict == KEPT)
        first_key = longest[left] if texts == "longest" else np.zeros(len(left), np.int64)
        order = left[np.lexsort((pair[left], first_key, url_hash[left]))]
        verdict[order[_repeats(order, url_hash)]] = OTHER_TEXT
    return verdict


def _repeats(order: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """Return which elements of a sorted order equal the one before in every key: bool (N,)."""
    again = np.ones(len(order), bool)
    again[:1] = False
    for key in keys:
        again[1:] &= key[order][1:] == key[order][:-1]
    return again

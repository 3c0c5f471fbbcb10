"""Who stays among equal pairs, and which texts an image keeps. Decided on keys alone, the same on any runner."""

from typing import Literal

import numpy as np

TextsPerImage = Literal["all", "longest", "first"]

KEPT = 0
DUPLICATE_PAIR = 1
OTHER_TEXT = 2
NO_MATCH = 3
VERDICT_REASONS = {DUPLICATE_PAIR: "duplicate_pair", OTHER_TEXT: "other_text_of_image", NO_MATCH: "no_match"}


def choose_winners(
    url_hash: np.ndarray, pair: np.ndarray, text_length: np.ndarray, tie: np.ndarray, texts: TextsPerImage
) -> np.ndarray:
    """A verdict for each row of a bucket that holds all rows of its URLs.

    Args:
        url_hash: uint64 (N,).
        pair: uint64 (N,), folded pair ids.
        text_length: int32 (N,), code points.
        tie: uint64 (N,), hash of the whole row.
        texts: `all` keeps every distinct text of an image, `longest` the longest (by hash among equals), `first` the
            one with the smallest pair hash, which is any one of them, but always the same.

    Returns:
        int8 (N,): KEPT, DUPLICATE_PAIR or OTHER_TEXT.
    """
    verdict = np.full(len(pair), KEPT, np.int8)
    order = np.lexsort((tie, pair, url_hash))
    again = np.zeros(len(order), bool)
    again[1:] = (pair[order][1:] == pair[order][:-1]) & (url_hash[order][1:] == url_hash[order][:-1])
    verdict[order[again]] = DUPLICATE_PAIR
    if texts == "all":
        return verdict
    left = np.flatnonzero(verdict == KEPT)
    length_key = -text_length[left].astype(np.int64) if texts == "longest" else np.zeros(len(left), np.int64)
    order = left[np.lexsort((pair[left], length_key, url_hash[left]))]
    again = np.zeros(len(order), bool)
    again[1:] = url_hash[order][1:] == url_hash[order][:-1]
    verdict[order[again]] = OTHER_TEXT
    return verdict

"""Parse `srcset`: the candidates of an image at several sizes (HTML Standard, section 4.8.4.2.1)."""

import operator
import re
from collections.abc import Collection
from typing import NamedTuple

MAX_CANDIDATES = 100
"""Candidates read from one `srcset`; those after them are ignored."""

_SIZE = operator.itemgetter(1)
_DESCRIPTOR = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)[wx]", re.IGNORECASE)
_USUAL = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)[wx],", re.IGNORECASE)  # a descriptor that ends its candidate


class Candidate(NamedTuple):
    """One candidate. `size` is the width in pixels, or the pixel density if that is given, or 1."""

    url: str
    size: float


def parse_srcset(srcset: str) -> list[Candidate]:
    """Return the first `MAX_CANDIDATES` candidates in order of appearance; invalid descriptors count as density 1.

    A URL ends at the next white space and may contain commas (`data:` URIs, transformation parameters); a comma at its
    end, or one after a descriptor, ends the candidate.
    """
    candidates: list[Candidate] = []
    tokens = srcset.split()
    tokens.reverse()  # the next token is at the end
    while tokens and len(candidates) < MAX_CANDIDATES:
        url = tokens.pop().lstrip(",")
        if not url:
            continue
        if url[-1] == ",":
            candidates.append(Candidate(url.rstrip(","), 1.0))
        elif tokens and (found := _USUAL.fullmatch(tokens[-1])) is not None:
            tokens.pop()
            candidates.append(Candidate(url, float(found.group(1))))
        else:
            candidates.append(Candidate(url, _take_size(tokens)))
    return candidates


def choose(candidates: Collection[Candidate], enough_width: int = 0) -> Candidate:
    """Return the first of `best_first`. `candidates` must not be empty."""
    if enough_width:
        return best_first(candidates, enough_width)[0]
    return max(candidates, key=_SIZE)


def best_first(candidates: Collection[Candidate], enough_width: int = 0) -> list[Candidate]:
    """Return the candidates from the largest down; with `enough_width`, those of at least that width, narrowest first,
    before the others. Equals stay in their order."""
    ordered = sorted(candidates, key=_SIZE, reverse=True)
    if not enough_width:
        return ordered
    wide = sorted((candidate for candidate in candidates if candidate.size >= enough_width), key=_SIZE)
    return wide + ordered[len(wide) :]


def _take_size(tokens: list[str]) -> float:
    """Pop the descriptors of one candidate from the tokens; push back a URL that is joined to the comma after them."""
    size = 1.0
    while tokens:
        descriptor, comma, rest = tokens.pop().partition(",")
        found = _DESCRIPTOR.fullmatch(descriptor)
        if found is not None:
            size = float(found.group(1))
        if comma:
            if rest:
                tokens.append(rest)
            break
    return size

"""Count words and bigrams of running text, never across a sentence end, a bracket or a heading.

Words are numbered in order of appearance, and a bigram is a pair of numbers in one integer: sorting integers counts
pairs several times faster than a dictionary of strings does.
"""

import re
from collections import Counter

import numpy as np

from openwit.pipeline.text.normalise import ASCII_WORDS, normalise

# Characters that end a run of words. Apostrophes, hyphens and slashes do not: "rock-and-roll" holds "rock and".
_BREAK = re.compile(r"[.!?;:,()\[\]{}\"“”„«»…\n\r|•–—。、！？；：，（）「」]+")
_END = "\0"
"""Stands between runs; no word holds it."""
_KEEPS_ENDS = bytes([0]) + ASCII_WORDS[1:]
# Tokens that wait to be counted: 4 bytes each.
_COUNT_AT = 4_000_000


class _Numbers(dict[str, int]):
    """Number words in order of appearance; the end of a run is 0."""

    def __init__(self) -> None:
        super().__init__({_END: 0})

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class TermCounter:
    """Count the terms of one part of a corpus."""

    def __init__(self, bigrams: bool = True) -> None:
        self._count_bigrams = bigrams
        self._numbers = _Numbers()
        self._waiting: list[np.ndarray] = []
        self._tokens_waiting = 0
        self._word_counts = np.zeros(0, np.int64)
        self._pairs = np.zeros(0, np.int64)
        self._pair_counts = np.zeros(0, np.int64)

    def add(self, text: str) -> None:
        """Count a text: one line per paragraph or heading."""
        runs = _BREAK.split(text.replace(_END, " "))
        plain = f" {_END} ".join(run for run in runs if run.isascii())
        tokens = plain.encode("ascii").translate(_KEEPS_ENDS).decode("ascii").split()
        for run in runs:
            if not run.isascii():
                tokens.append(_END)
                tokens += normalise(run).split()
        tokens.append(_END)
        self._waiting.append(np.fromiter(map(self._numbers.__getitem__, tokens), np.int32, len(tokens)))
        self._tokens_waiting += len(tokens)
        if self._tokens_waiting >= _COUNT_AT:
            self._count()

    @property
    def words(self) -> Counter[str]:
        """Return the occurrences of each normalised word."""
        self._count()
        names = list(self._numbers)
        return Counter({name: int(n) for name, n in zip(names[1:], self._word_counts[1:], strict=True)})

    @property
    def bigrams(self) -> Counter[str]:
        """Return the occurrences of each "first second"."""
        self._count()
        names = list(self._numbers)
        firsts, seconds = (self._pairs >> 32).tolist(), (self._pairs & 0xFFFFFFFF).tolist()
        counted = zip(firsts, seconds, self._pair_counts.tolist(), strict=True)
        return Counter({f"{names[first]} {names[second]}": n for first, second, n in counted})

    def __len__(self) -> int:
        """Return the number of distinct words and bigrams counted so far."""
        return len(self._numbers) - 1 + len(self._pairs)

    def _count(self) -> None:
        if not self._waiting:
            return
        tokens = np.concatenate(self._waiting)
        self._waiting, self._tokens_waiting = [], 0
        counts = np.bincount(tokens, minlength=len(self._numbers))
        counts[: len(self._word_counts)] += self._word_counts
        self._word_counts = counts
        if self._count_bigrams:
            first, second = tokens[:-1].astype(np.int64), tokens[1:].astype(np.int64)
            inside = (first != 0) & (second != 0)
            pairs, pair_counts = np.unique(first[inside] << 32 | second[inside], return_counts=True)
            self._pairs, self._pair_counts = _added(self._pairs, self._pair_counts, pairs, pair_counts)


def _added(
    keys: np.ndarray, counts: np.ndarray, more_keys: np.ndarray, more_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sum two sorted lists of counted keys."""
    if not len(keys):
        return more_keys, more_counts
    merged, place = np.unique(np.concatenate([keys, more_keys]), return_inverse=True)
    sums = np.bincount(place, weights=np.concatenate([counts, more_counts]), minlength=len(merged))
    return merged, sums.astype(np.int64)

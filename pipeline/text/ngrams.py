"""Counting words and bigrams of running text, never across a sentence end, a bracket or a heading."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from pipeline.text.normalise import normalise

# What ends a run of words. Apostrophes, hyphens and slashes do not: "rock-and-roll" holds "rock and".
_BREAK = re.compile(r"[.!?;:,()\[\]{}\"“”„«»…\n\r|•–—。、！？；：，（）「」]+")


class TermCounter:
    """Counts of one part of a corpus.

    Attributes:
        words: occurrences of each normalised word.
        bigrams: occurrences of each "first second".
    """

    def __init__(self, bigrams: bool = True) -> None:
        self.words: Counter[str] = Counter()
        self.bigrams: Counter[str] = Counter()
        self._count_bigrams = bigrams

    def add(self, text: str) -> None:
        """Counts a text: one line a paragraph or heading."""
        for run in _BREAK.split(text):
            tokens = normalise(run).split()
            self.words.update(tokens)
            if self._count_bigrams and len(tokens) > 1:
                self.bigrams.update(_pairs(tokens))

    def __len__(self) -> int:
        return len(self.words) + len(self.bigrams)


def _pairs(tokens: list[str]) -> Iterable[str]:
    return (f"{first} {second}" for first, second in pairwise(tokens))

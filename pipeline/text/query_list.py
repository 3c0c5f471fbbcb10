"""Assembling the query list from counted terms and named sources (paper section 2.2)."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.text.normalise import normalise
from schemas.queries import QUERIES, SOURCES


@dataclass
class Entry:
    """One query before it gets its number."""

    source: str
    count: int | None = None
    pmi: float | None = None
    views: int | None = None

    @property
    def score(self) -> float:
        """What ranks bigrams and titles when there are too many queries."""
        if self.source == "bigram":
            return self.pmi or 0.0
        return float(self.views or self.count or 0)


@dataclass
class QueryList:
    """Collects entries; the first source that names a query keeps it. Counts what is left out, by reason."""

    max_words: int
    entries: dict[str, Entry] = field(default_factory=dict)
    offered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, term: str, entry: Entry) -> None:
        """Offers a term; it is normalised as captions are."""
        self.offered += 1
        query = normalise(term)
        if not query:
            self.reasons["no_words"] += 1
        elif entry.source in ("title", "synset") and query.count(" ") >= self.max_words:
            self.reasons["too_many_words"] += 1
        elif query in self.entries:
            self.reasons["duplicate"] += 1
        else:
            self.entries[query] = entry

    def refuse(self, reason: str, n: int = 1) -> None:
        """Counts terms that were looked at and not offered."""
        self.offered += n
        self.reasons[reason] += n

    def table(self, limit: int) -> pa.Table:
        """The list as a QUERIES table: all words, synsets and own entries, then bigrams and titles by score.

        Order: by source, then by count, then by text, so that the same inputs give the same file.
        """
        ranked = sorted(self.entries.items(), key=lambda item: (_rank(item[1]), -item[1].score, item[0]))
        kept = ranked[:limit]
        self.reasons["over_limit"] += len(ranked) - len(kept)
        kept.sort(key=lambda item: (SOURCES.index(item[1].source), -(item[1].count or 0), item[0]))
        return QUERIES.table(
            {
                "query_id": list(range(len(kept))),
                "query": [query for query, _ in kept],
                "source": [entry.source for _, entry in kept],
                "count": [entry.count for _, entry in kept],
                "pmi": [entry.pmi for _, entry in kept],
                "views": [entry.views for _, entry in kept],
            }
        )


def _rank(entry: Entry) -> int:
    return 1 if entry.source in ("bigram", "title") else 0


def pmi(count: int, first: int, second: int, total: int) -> float:
    """Pointwise mutual information in bits: log2(n12 * N / (n1 * n2)) (Church and Hanks 1990)."""
    return math.log2(count * total / (first * second))


def add_bigrams(
    queries: QueryList,
    bigrams: Iterable[tuple[str, int]],
    words: dict[str, int],
    total: int,
    min_pmi: float,
) -> None:
    """Offers bigrams whose PMI reaches the threshold; the others are counted as `low_pmi`."""
    for bigram, count in bigrams:
        first, second = bigram.split(" ")
        value = pmi(count, words[first], words[second], total)
        if value < min_pmi:
            queries.refuse("low_pmi")
        else:
            queries.add(bigram, Entry("bigram", count=count, pmi=value))

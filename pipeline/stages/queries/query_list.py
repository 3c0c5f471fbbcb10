"""Assemble the query list from counted terms and named sources (paper section 2.2)."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from openwit.pipeline.stages.queries.reasons import DUPLICATE, LOW_PMI, NO_WORDS, OVER_LIMIT, TOO_MANY_WORDS
from openwit.pipeline.text.matching.settings import MatchMode
from openwit.pipeline.text.normalise import normalise
from openwit.schemas.tables.queries import QUERIES, SOURCES

# Sources that are cut when the list is too long.
_RANKED = ("bigram", "title")


@dataclass
class Entry:
    """A query before it gets its number.

    Attributes:
        source: one of SOURCES.
        count: occurrences in the corpus; of a title, the links to its article.
        pmi, views: as in QUERIES.
        rank: of bigrams and titles, decides which are kept when there are too many: higher is better.
    """

    source: str
    count: int | None = None
    pmi: float | None = None
    views: int | None = None
    rank: float = 0.0


def query_text(term: str, match: MatchMode) -> str:
    """Return what captions are searched for: a term normalised as captions are, or as it is."""
    return normalise(term) if match == "words" else term


@dataclass
class QueryList:
    """Collect entries; the first source that names a query keeps it. Count what is dropped, by reason.

    Attributes:
        max_words: of a title or synset.
        match: how captions will be matched. `words` joins entries that differ in case or spelling only; `metaclip`
            keeps every entry as it is.
    """

    max_words: int
    match: MatchMode = "words"
    entries: dict[str, Entry] = field(default_factory=dict)
    offered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, term: str, entry: Entry) -> None:
        """Offer a term; it becomes what captions are searched for."""
        self.offered += 1
        query = query_text(term, self.match)
        if not query or query.isspace():
            self.reasons[NO_WORDS] += 1
        elif entry.source in ("title", "synset") and query.count(" ") >= self.max_words:
            self.reasons[TOO_MANY_WORDS] += 1
        elif query in self.entries:
            self.reasons[DUPLICATE] += 1
        else:
            self.entries[query] = entry

    def refuse(self, reason: str, n: int = 1) -> None:
        """Count terms that were looked at and not offered."""
        self.offered += n
        self.reasons[reason] += n

    def table(self, limit: int) -> pa.Table:
        """Return the list as a QUERIES table: all words, synsets and own entries, then bigrams and titles by rank.

        If there are too many bigrams and titles, the same share of each source is kept: PMI and page views
        have no common measure. Order: by source, then by rank or count, then by text, so that the same inputs give the
        same file.
        """
        ordered = sorted(
            self.entries.items(),
            key=lambda item: (SOURCES.index(item[1].source), -item[1].rank, -(item[1].count or 0), item[0]),
        )
        kept = _within(ordered, limit)
        self.reasons[OVER_LIMIT] += len(ordered) - len(kept)
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


def _within(ordered: list[tuple[str, Entry]], limit: int) -> list[tuple[str, Entry]]:
    """Return the entries that are kept, in their order."""
    if len(ordered) <= limit:
        return ordered
    sizes = Counter(entry.source for _, entry in ordered)
    places = Counter[str]()
    ranked = []
    for position, (_, entry) in enumerate(ordered):
        # relative position of an entry in its source's list, in (0, 1]; the others come before all
        places[entry.source] += 1
        depth = places[entry.source] / sizes[entry.source] if entry.source in _RANKED else 0.0
        ranked.append((depth, position))
    return [ordered[position] for position in sorted(position for _, position in sorted(ranked)[:limit])]


def pmi(count: int, first: int, second: int, total: int) -> float:
    """Return pointwise mutual information in bits: log2(n12 * N / (n1 * n2)) (Church and Hanks 1990)."""
    return math.log2(count * total / (first * second))


def add_bigrams(
    queries: QueryList,
    bigrams: Mapping[str, int],
    words: Mapping[str, int],
    total: int,
    min_pmi: float,
    top: int | None = None,
) -> None:
    """Offer bigrams by their PMI; the others are counted as `low_pmi`.

    Args:
        queries: gets the bigrams.
        bigrams, words: occurrences in the corpus; every word of a bigram must be there.
        total: words of the corpus.
        min_pmi: bits that a bigram needs.
        top: offer at most this many, those of highest PMI.
    """
    found = []
    for bigram, count in bigrams.items():
        first, second = bigram.split(" ")
        found.append((pmi(count, words[first], words[second], total), bigram, count))
    found.sort(key=lambda item: (-item[0], item[1]))
    for place, (value, bigram, count) in enumerate(found):
        if value < min_pmi or (top is not None and place >= top):
            queries.refuse(LOW_PMI)
        else:
            queries.add(bigram, Entry("bigram", count=count, pmi=value, rank=value))

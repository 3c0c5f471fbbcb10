"""Count found and kept pairs by image source, text source and form of the reference (relative or absolute)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from openwit.pipeline.stages.candidates.pair import TABLE, Pair

FOUND, KEPT = "found", "kept"
_PREFIX = "yield"
_KINDS = ("image", "text", "reference")


class SourceStats(NamedTuple):
    """Pairs found in one source, and how many of them became candidates.

    Attributes:
        kind: image, text or reference: what `source` is the source of.
    """

    kind: str
    source: str
    found: int
    kept: int


def count_pairs(counters: Counter[str], what: str, pairs: Iterable[Pair]) -> None:
    """Count the pairs of a crawl by every kind.

    Args:
        counters: gets `yield/KIND/SOURCE/WHAT`.
        what: FOUND or KEPT.
        pairs: pairs of tables are skipped: they have one source only.
    """
    for pair in pairs:
        if pair.image_source == TABLE:
            continue
        for kind, source in zip(_KINDS, (pair.image_source, pair.text_source, _reference(pair)), strict=True):
            counters[f"{_PREFIX}/{kind}/{source}/{what}"] += 1


def extraction_stats(counters: Mapping[str, int]) -> list[SourceStats]:
    """Return the pairs per source of a stage's counters: by kind, then by pairs found. Empty for tables."""
    found = [name.split("/") for name in counters if name.startswith(f"{_PREFIX}/")]
    sources = sorted({(kind, source) for _, kind, source, _ in found})
    lines = [
        SourceStats(kind, source, *(counters.get(f"{_PREFIX}/{kind}/{source}/{what}", 0) for what in (FOUND, KEPT)))
        for kind, source in sources
    ]
    return sorted(lines, key=lambda line: (_KINDS.index(line.kind), -line.found, line.source))


def _reference(pair: Pair) -> str:
    return "relative" if pair.relative else "absolute"

"""Count found and kept pairs by image source, text source and form of the reference (relative or absolute)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from openwit.pipeline.stages.candidates.pair import TABLE, Pair

FOUND, KEPT = "found", "kept"
_PREFIX = "yield"
_KINDS = ("image", "text", "reference")


class Yield(NamedTuple):
    """One line of the yield table: pairs found one way, and how many of them became candidates."""

    kind: str
    place: str
    found: int
    kept: int


def count_yield(counters: Counter[str], what: str, pairs: Iterable[Pair]) -> None:
    """Count the pairs of a crawl by every kind.

    Args:
        counters: gets `yield/KIND/PLACE/WHAT`.
        what: FOUND or KEPT.
        pairs: pairs of tables are skipped: they have one source only.
    """
    for pair in pairs:
        if pair.image_source == TABLE:
            continue
        for kind, place in zip(_KINDS, (pair.image_source, pair.text_source, _reference(pair)), strict=True):
            counters[f"{_PREFIX}/{kind}/{place}/{what}"] += 1


def yields(counters: Mapping[str, int]) -> list[Yield]:
    """Return the yield table of a stage's counters: kinds in order, places by pairs found. Empty for tables."""
    found = [name.split("/") for name in counters if name.startswith(f"{_PREFIX}/")]
    places = sorted({(kind, place) for _, kind, place, _ in found})
    lines = [
        Yield(kind, place, *(counters.get(f"{_PREFIX}/{kind}/{place}/{what}", 0) for what in (FOUND, KEPT)))
        for kind, place in places
    ]
    return sorted(lines, key=lambda line: (_KINDS.index(line.kind), -line.found, line.place))


def _reference(pair: Pair) -> str:
    return "relative" if pair.relative else "absolute"

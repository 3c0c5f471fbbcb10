"""Define a found (image, text) pair, a dropped one, and their tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import xxhash

from openwit.pipeline.common.urls import normalise_url
from openwit.pipeline.text.normalise import normalise
from openwit.schemas.tables.candidates import CANDIDATES, DROPS

TABLE = "table"
"""Text source and image source of what an input table holds."""

_DROPPED_TEXT = 500


@dataclass(slots=True)
class Pair:
    """An (image, text) pair; the attributes are the columns of `schemas.tables.candidates.CANDIDATES`, and a few more.

    Attributes:
        page_title: title of its page, empty if there is none.
        relative: whether its reference on the page was relative.
        problem: a reason for which it is dropped, and a detail.
    """

    url: str
    text: str
    text_source: str
    image_source: str
    archive: str
    record_offset: int
    split: str | None = None
    page_url: str | None = None
    fetch_date: str | None = None
    license: str | None = None
    has_bytes: bool = False
    pair_id: bytes | None = None
    language: str | None = None
    language_score: float | None = None
    columns: str | None = None
    page_title: str = ""
    relative: bool = False
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """A dropped pair, the reason, and a detail."""

    pair: Pair
    reason: str
    detail: str | None = None


def pair_id(url: str, text: str) -> bytes:
    """Return 16 bytes that identify a pair: xxh3-128 of normalised URL, NUL, normalised text."""
    return xxhash.xxh3_128_digest(f"{normalise_url(url)}\0{normalise(text)}".encode())


def candidates_table(pairs: Sequence[Pair]) -> pa.Table:
    """Return the pairs as rows of CANDIDATES."""
    return CANDIDATES.table({name: [getattr(pair, name) for pair in pairs] for name in CANDIDATES.arrow.names})


def drops_table(drops: Sequence[Drop]) -> pa.Table:
    """Return the drops as rows of DROPS."""
    columns: dict[str, object] = {
        "pair_id": [None] * len(drops),
        "url": [drop.pair.url for drop in drops],
        "text": [drop.pair.text[:_DROPPED_TEXT] for drop in drops],
        "reason": [drop.reason for drop in drops],
        "detail": [drop.detail for drop in drops],
    }
    return DROPS.table(columns)

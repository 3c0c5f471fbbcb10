"""Count what deduplication dropped per reason, and show examples with their images."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from openwit.pipeline.stages.card.texts import clip
from openwit.pipeline.stages.card.thumbnails import picture_uri
from openwit.pipeline.stages.dedup.reasons import DEDUP_REASONS
from openwit.pipeline.stages.meanings import name_of
from openwit.schemas.manifest import FunnelStep

_PER_REASON = 6


def duplicate_facts(funnel: list[FunnelStep]) -> dict[str, Any]:
    """Return the images and texts that deduplication dropped per reason, most frequent first."""
    facts: dict[str, Any] = {}
    for unit in ("images", "pairs"):
        reasons = Counter[str]()
        for step in funnel:
            if (step.stage, step.unit) == ("dedup", unit):
                reasons.update(step.reasons)
        facts[unit] = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    return facts


def duplicate_groups(table: pa.Table, meanings: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return examples by reason, in a fixed order, with thumbnails.

    Args:
        table: of `openwit.schemas.tables.images.DUPLICATE_EXAMPLES`.
        meanings: of the reasons.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["reason"], []).append(row)
    known = [reason for reason in DEDUP_REASONS if reason in rows]
    ordered = [*known, *sorted(set(rows) - set(known))]
    return [
        {
            "reason": reason,
            "name": name_of(reason),
            "meaning": meanings.get(reason, ""),
            "examples": [_example(row) for row in rows[reason][:_PER_REASON]],
        }
        for reason in ordered
    ]


def _example(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "url": row["url"],
        "text": clip(row["text"], 120),
        "image": picture_uri(row["image"]),
        "kept_url": row["kept_url"],
        "kept_text": clip(row["kept_text"] or "", 120),
        "kept_image": picture_uri(row["kept_image"]),
        "distance": row["distance"],
    }

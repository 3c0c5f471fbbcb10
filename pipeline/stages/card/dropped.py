"""Lay out the examples of dropped pairs, step by step and reason by reason."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from openwit.pipeline.stages.card.texts import clip
from openwit.pipeline.stages.meanings import name_of

_URL, _TEXT, _DETAIL = 110, 160, 110


def dropped_groups(table: pa.Table, meanings: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the steps in their order, each with its reasons and their examples.

    Args:
        table: of `openwit.schemas.tables.candidates.DROP_EXAMPLES`.
        meanings: of the reasons.
    """
    steps: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in table.to_pylist():
        steps.setdefault(row["step"], {}).setdefault(row["reason"], []).append(row)
    return [
        {
            "step": step,
            "reasons": [
                {
                    "name": name_of(reason),
                    "meaning": meanings.get(reason, ""),
                    "examples": [
                        {
                            "text": clip(row["text"], _TEXT),
                            "url": clip(row["url"], _URL),
                            "detail": clip(row["detail"] or "", _DETAIL),
                        }
                        for row in rows
                    ],
                }
                for reason, rows in reasons.items()
            ],
        }
        for step, reasons in steps.items()
    ]

"""What rows of the inputs demand of their image: a checksum that it must have, and boxes to blur in it."""

import hashlib
from collections.abc import Sequence
from typing import Any

from openwit.pipeline.common.column_values import BLUR, MD5, SHA256, json_row, row_of
from openwit.pipeline.common.demands import CARRIED, setting_of
from openwit.pipeline.common.reasons import Reason

CHECKSUM_DIFFERS = Reason("checksum_differs", "a file of another checksum than the input gives for it")
_MARKS = tuple(f'"{name}"' for name in CARRIED)
_CHECKSUMS = {MD5: hashlib.md5, SHA256: hashlib.sha256}

Pair = dict[str, Any]


def take_demands(pair: Pair) -> None:
    """Take what a selected pair demands out of its kept columns; it is then under `demands`, where there is any."""
    columns = pair["columns"]
    if columns is None or not any(mark in columns for mark in _MARKS):
        return
    row = row_of(columns)
    pair["demands"] = {name: row.pop(name) for name in CARRIED if name in row}
    pair["columns"] = json_row(row)


def refused_pairs(pairs: Sequence[Pair], body: bytes) -> dict[int, str]:
    """Return the pairs that want another file than this: number in `pairs` to what was seen."""
    found: dict[str, str] = {}
    refused = {}
    for number, pair in enumerate(pairs):
        for name, expected in pair.get("demands", {}).items():
            if name not in _CHECKSUMS:
                continue
            if name not in found:
                found[name] = _CHECKSUMS[name](body).hexdigest()
            if expected != found[name]:
                refused[number] = f"{setting_of(name)} {found[name]}, expected {expected}"
    return refused


def boxes_to_blur(pairs: Sequence[Pair]) -> list[list[float]]:
    """Return the boxes that any of the pairs of an image wants to be blurred, each once."""
    found = {tuple(box): None for pair in pairs for box in pair.get("demands", {}).get(BLUR, ())}
    return [list(box) for box in sorted(found)]

"""What a row of an input demands of its image: boxes to blur in it, and checksums that its file must have.

They travel beside the kept columns of the row, under names that no column keeps.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from openwit.pipeline.common.column_values import BLUR, MD5, SHA256
from openwit.pipeline.common.reasons import Reason
from openwit.schemas.common.lenient_json import lenient_json

BAD_BOXES = Reason("bad_boxes", "the input gives boxes to blur that cannot be read, or does not say whether any")
BAD_CHECKSUM = Reason("bad_checksum", "the input gives a checksum that cannot be read, or none where it should")
DEMAND_REASONS = (BAD_BOXES, BAD_CHECKSUM)
CARRIED = (BLUR, MD5, SHA256)
"""Names under which demands travel."""

MISSING: Any = object()
"""In place of a value: a field that is not there. It is not null: nobody knows whether there is something to blur."""
_DIGITS = {MD5: 32, SHA256: 64}
_FARTHEST = 0.5  # beyond the picture, in fractions of it: more is no fraction


def setting_of(name: str) -> str:
    """Return the setting that names the column of a demand: `blur`, `md5` or `sha256`."""
    return name.strip("_")


def checked_demands(row: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Reason, str] | None]:
    """Return what a row demands as it travels, and what is wrong with it.

    Args:
        row: values by name of the demand: numbers and lists, JSON text, hex digits, bytes; None for no demand.
    """
    found: dict[str, Any] = {}
    for name, value in row.items():
        try:
            if value is MISSING:
                raise ValueError(f"the .json of the image has no field for candidates.columns.{setting_of(name)}")
            checked = _boxes(value) if name == BLUR else _checksum(value, _DIGITS[name])
        except ValueError as error:
            return {}, (BAD_BOXES if name == BLUR else BAD_CHECKSUM, str(error))
        if checked:
            found[name] = checked
    return found, None


def boxes_of(value: Any) -> list[list[float]]:
    """Return the boxes of a list of boxes, or of one box; None is no box.

    Returns:
        left, top, right, bottom of each, as fractions of the picture.

    Raises:
        ValueError: it is neither; the message says what is wrong.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError("the boxes to blur are no list")
    listed = [value] if value and not isinstance(value[0], list) else value
    boxes = []
    for box in listed:
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise ValueError("a box to blur is four numbers: left, top, right, bottom")
        if not all(-_FARTHEST <= part <= 1 + _FARTHEST for part in box):
            raise ValueError("a box to blur is in fractions of width and height, from 0 to 1, not in pixels")
        left, top, right, bottom = map(float, box)
        boxes.append([min(left, right), min(top, bottom), max(left, right), max(top, bottom)])
    return boxes


def _boxes(value: Any) -> list[list[float]]:
    if isinstance(value, str):
        if not value.strip():
            return []
        value, problem = lenient_json(value.encode())
        if problem and value is None:
            raise ValueError("the boxes to blur are no JSON list of boxes")
    return boxes_of(value)


def _is_number(part: Any) -> bool:
    return isinstance(part, int | float) and not isinstance(part, bool) and math.isfinite(part)


def _checksum(value: Any, digits: int) -> str:
    if value is None:
        return ""
    text = value.hex() if isinstance(value, bytes) else str(value).strip().lower()
    if text and not re.fullmatch(f"[0-9a-f]{{{digits}}}", text):
        raise ValueError(f"{text[:80]!r} is no checksum of {digits} hexadecimal digits")
    return text

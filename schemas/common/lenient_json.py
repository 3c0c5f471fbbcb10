"""Read JSON that lax writers made: NaN, Infinity, cut surrogate escapes, a byte order mark, bytes that are not UTF-8.

RFC 8259 allows none of these, but Python's `json.dumps`, pandas and older crawlers write them. A strict reader comes
first; what it refuses is read again and repaired, and the caller counts it.
"""

import json
from typing import Any

import msgspec


def lenient_json(document: bytes | memoryview) -> tuple[Any, str]:
    """Read a JSON document as far as it can be read.

    Numbers that are none (NaN, Infinity) become null, cut surrogates and bytes that are not UTF-8 are removed from
    texts, a byte order mark and control characters in texts are accepted.

    Returns:
        The value, or None; and what is wrong with it, empty if it is valid.
    """
    raw = bytes(document)
    try:
        return msgspec.json.decode(raw), ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error)
    try:
        return _whole(json.loads(raw.decode("utf-8-sig", "ignore"), strict=False)), reason
    except (ValueError, RecursionError):
        return None, reason


def _whole(value: Any) -> Any:
    """Return a value without cut surrogates, which cannot be encoded, and with null for numbers that are none."""
    if isinstance(value, str):
        # Pairs become the characters they stand for; cut ones cannot be encoded.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(each) for key, each in value.items()}
    return value

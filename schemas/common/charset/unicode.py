"""Recognise Unicode's own encodings: by a byte order mark, by the zeros of UTF-16 and UTF-32, and by validity."""

import codecs
import struct

import pyarrow as pa

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 1 << 16
_FEWEST_BYTES = 8
_LONG_BYTES = 1 << 14


def is_utf8(data: bytes) -> bool:
    """Return whether bytes are valid UTF-8."""
    if data.isascii():
        return True
    if len(data) >= _LONG_BYTES:
        return _is_long_utf8(data)
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_long_utf8(data: bytes) -> bool:
    """Return whether bytes are valid UTF-8, by Arrow, which makes no text of them."""
    offsets = pa.py_buffer(struct.pack("=qq", 0, len(data)))
    try:
        pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def marked_codec(head: bytes) -> tuple[str | None, int]:
    """Return (codec that a byte order mark names, or None; length of the mark)."""
    return next(((codec, len(mark)) for mark, codec in _MARKS if head.startswith(mark)), (None, 0))


def wide_codec(head: bytes) -> tuple[str | None, int]:
    """Return (UTF-16 or UTF-32 codec, or None; length of the byte order mark) for the beginning of a text.

    Without a mark, the zeros decide: in UTF-32 the two high bytes of nearly every character are zero; in UTF-16 zeros
    are in every other place only.
    """
    codec, mark = marked_codec(head)
    if codec is not None:
        return (None, 0) if codec == "utf-8" else (codec, mark)
    sample = head[: min(len(head), _SAMPLE_BYTES) // 4 * 4]
    if len(sample) < _FEWEST_BYTES or b"\0" not in sample:
        return None, 0
    zeros = [sample[at::4].count(0) for at in range(4)]
    quarter = len(sample) // 4
    for codec, (low, high, highest) in (("utf-32-le", (0, 2, 3)), ("utf-32-be", (3, 1, 0))):
        if zeros[highest] == quarter and 10 * zeros[high] > 9 * quarter and 3 * zeros[low] < quarter:
            return codec, 0
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    found, most, least = ("utf-16-le", odd, even) if odd > even else ("utf-16-be", even, odd)
    if most * 20 < len(sample) or least * 20 > most:
        return None, 0
    text = sample.decode(found, "replace")
    return (found if text.count("\ufffd") * 20 <= len(text) else None), 0

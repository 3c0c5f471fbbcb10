"""Inspect JPEG files without decoding them: can one be kept as it is, and which bytes are not picture data?"""

import re
from dataclasses import dataclass

_SOI, _EOI, _SOS, _DRI, _DNL = 0xD8, 0xD9, 0xDA, 0xDD, 0xDC
_SCAN_START = re.compile(bytes((0xFF, _SOS)))
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_PLAIN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Quantisation and Huffman tables, restart interval, frames, scans, and the two application segments that declare
# the colour coding: JFIF and Adobe.
_NEEDED = frozenset({0xDB, 0xC4, _DRI, _DNL, _SOS}) | _FRAMES


@dataclass(frozen=True, slots=True)
class JpegScan:
    """The result of a walk over the segments of a JPEG file.

    Attributes:
        plain: Huffman-coded baseline, extended or progressive: what every decoder reads.
        extra: the file has bytes that no decoder needs: metadata, thumbnails, comments, anything after the end.
        clean: the file without them; the same bytes if there are none.
        scans: number of scans; each one costs the decoder a pass over the whole picture.
    """

    plain: bool
    extra: bool
    clean: bytes
    scans: int


def scan_jpeg(body: bytes) -> JpegScan | None:
    """Walk over the segments of a JPEG file; return None if they do not end in an EOI marker.

    Removing segments changes no pixel. It removes what a dataset should not pass on: the camera's location and serial
    number, and files hidden behind the picture.
    """
    kept = [body[:2]]
    plain = extra = False
    scans = 0
    position = 2
    while True:
        position = _next_marker(body, position)
        if position < 0:
            return None
        marker = body[position + 1]
        if marker == _EOI:
            end = position + 2
            kept.append(body[position:end])
            extra = extra or end != len(body)
            return JpegScan(plain, extra, b"".join(kept) if extra else body, scans)
        end = _segment_end(body, position, marker)
        if end < 0:
            return None
        scans += marker == _SOS
        if marker in _FRAMES:
            plain = marker in _PLAIN_FRAMES
        if _needed(body, position, marker):
            kept.append(body[position:end])
        else:
            extra = True
        position = end


def has_many_scans(body: bytes, limit: int) -> bool:
    """Return whether a file has more than `limit` scans, or too many scan markers to count them reliably."""
    if len(_SCAN_START.findall(body)) <= limit:
        return False
    scan = scan_jpeg(body)  # slow, but thumbnails and bytes behind the picture may contain the marker by chance
    return scan is None or scan.scans > limit


def _next_marker(body: bytes, position: int) -> int:
    """Return the offset of the marker at `position`, skipping fill bytes; -1 if there is none."""
    while body[position : position + 2] == b"\xff\xff":
        position += 1
    return position if position + 2 <= len(body) and body[position] == 0xFF else -1


def _segment_end(body: bytes, position: int, marker: int) -> int:
    if marker in _STANDALONE:
        return position + 2
    length = int.from_bytes(body[position + 2 : position + 4], "big")
    end = position + 2 + length
    if length < 2 or end > len(body):
        return -1
    return _scan_end(body, end) if marker == _SOS else end


def _scan_end(body: bytes, position: int) -> int:
    """Return the offset of the first marker after entropy-coded data, skipping stuffed bytes and restarts; or -1."""
    while True:
        position = body.find(b"\xff", position)
        if position < 0 or position + 1 >= len(body):
            return -1
        following = body[position + 1]
        if following == 0xFF:
            position += 1
        elif following == 0 or 0xD0 <= following <= 0xD7:
            position += 2
        else:
            return position


def _needed(body: bytes, position: int, marker: int) -> bool:
    if marker in _NEEDED:
        return True
    name = body[position + 4 : position + 9]
    return (marker == 0xE0 and name == b"JFIF\0") or (marker == 0xEE and name == b"Adobe")

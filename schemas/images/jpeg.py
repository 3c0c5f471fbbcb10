"""Walk over JPEG files without decoding them: take out what is not picture data, count scans, copy files as they are.

Every walk is linear: it steps from segment to segment, and leaps over fill bytes, junk and entropy-coded data by
searches in C. Pillow reads the same bytes one at a time, and keeps what it finds.
"""

import re
from dataclasses import dataclass

from openwit.schemas.images.exif import orientation_of
from openwit.schemas.images.faults import MAX_PARTS, MAX_PROFILE_BYTES, ImageFault, ImageFileError
from openwit.schemas.images.picture import Picture

_SOI, _EOI, _SOS, _DRI, _DNL = 0xD8, 0xD9, 0xDA, 0xDD, 0xDC
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_END = b"\xff\xd9"
_SCAN_START = bytes((0xFF, _SOS))
_FILL = re.compile(rb"\xff*")
# Any marker but stuffed bytes, fill bytes and restarts.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_STANDALONE = frozenset({0x00, 0x01, _SOI, *range(0xD0, 0xD8)})
_PLAIN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1})
# Quantisation and Huffman tables, arithmetic conditioning, restart interval, frames, scans; and the two application
# segments that declare the colour coding: JFIF and Adobe.
_NEEDED = frozenset({0xDB, 0xC4, 0xCC, _DRI, _DNL, _SOS}) | _FRAMES
_SHORTEST_JFIF, _SHORTEST_ADOBE = 14, 12
# Encoders write 2 to 10 of them before the picture data, of less than 3 kB together.
_MAX_TABLES, _MAX_TABLE_BYTES = 1000, 1 << 17


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


def jpeg_picture(body: bytes) -> Picture:
    """Take the metadata out of what precedes the picture data; the rest of the file is left as it is.

    Segments whose length is impossible, junk between segments and segments of no known kind are left out, as decoders
    do. An end marker is added where the file has none.

    Raises:
        ImageFileError: there is no picture data, or there are more segments than any encoder writes.
    """
    kept = [body[:2]]
    exif: bytes | None = None
    profile: dict[int, bytes] = {}
    parts = tables = table_bytes = 0
    frames: list[int] = []
    # A slice of the file that grows as long as nothing is left out.
    start = position = 2
    while True:
        pair = body[position : position + 2]
        at = position if len(pair) == 2 and pair[0] == 0xFF and pair[1] != 0xFF else _marker_at(body, position)
        marker = body[at + 1]
        if marker == _EOI:
            raise ImageFileError(ImageFault.BROKEN, "it ends before its picture data")
        length = int.from_bytes(body[at + 2 : at + 4], "big")
        end = at + 2 if marker in _STANDALONE else at + 2 + (length if length > 2 else 2)
        needed = marker in _NEEDED or _needed(body, at, marker)
        if needed and end > len(body):
            raise ImageFileError(ImageFault.TRUNCATED, "no picture data")
        parts += 1
        if needed:
            tables, table_bytes = tables + 1, table_bytes + end - at
        if parts > MAX_PARTS or tables > _MAX_TABLES or table_bytes > _MAX_TABLE_BYTES:
            raise ImageFileError(ImageFault.TOO_MANY_PARTS, f"{parts:,} segments, {tables:,} of them of tables")
        if not needed:
            kept.append(body[start:position])
            start = end
        elif at != position:
            kept.append(body[start:position])
            start = at
        if marker == _SOS:
            break
        if marker in _FRAMES:
            frames.append(at)
        if marker == _APP1 and exif is None and body.startswith(b"Exif\0\0", at + 4):
            exif = body[at + 4 : end]
        elif marker == _APP2 and length > 16 and body.startswith(b"ICC_PROFILE\0", at + 4):
            profile.setdefault(body[at + 16], body[at + 18 : end])
        position = end
    complete = body.rfind(_END, end) >= 0
    orientation = 1 if exif is None else orientation_of(exif)
    tail = b"" if complete else _END
    clean = body if len(kept) == 1 and not tail else b"".join((*kept, body[start:], tail))
    return Picture(clean, orientation, _joined(profile), complete, _is_one_scan(body, frames, at))


def _is_one_scan(body: bytes, frames: list[int], scan: int) -> bool:
    """Return whether the first scan has all components of the only frame, a sequential one, so no other is read."""
    if len(frames) != 1 or body[frames[0] + 1] not in _SEQUENTIAL:
        return False
    count = body[frames[0] + 9 : frames[0] + 10]
    return count != b"" and count == body[scan + 4 : scan + 5]


def _marker_at(body: bytes, position: int) -> int:
    """Return the offset of the next marker, behind junk and fill bytes; a stuffed byte counts as one."""
    found = body.find(b"\xff", position)
    end = _FILL.match(body, max(found, 0)).end()  # type: ignore[union-attr]
    if found < 0 or end >= len(body):
        raise ImageFileError(ImageFault.TRUNCATED, "no picture data")
    return end - 1


def _joined(profile: dict[int, bytes]) -> bytes | None:
    """Return a colour profile of its parts by number from 1; None if one is missing or it is too large."""
    if not profile or sorted(profile) != list(range(1, len(profile) + 1)):
        return None
    joined = b"".join(part for _, part in sorted(profile.items()))
    return joined if len(joined) <= MAX_PROFILE_BYTES else None


def scan_jpeg(body: bytes) -> JpegScan | None:
    """Walk over all segments of a JPEG file; None if they do not end in an EOI marker, or are too many.

    Removing segments changes no pixel. It removes what a dataset should not pass on: the camera's location and serial
    number, and files hidden behind the picture.
    """
    kept = [body[:2]]
    plain = extra = False
    scans = 0
    position = 2
    for _ in range(MAX_PARTS):
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
    return None


def has_many_scans(body: bytes, limit: int) -> bool:
    """Return whether a file has more than `limit` scans, or too many segments to count them."""
    if body.count(_SCAN_START) <= limit:
        return False
    scan = scan_jpeg(body)  # slow, but thumbnails and bytes behind the picture may contain the marker by chance
    return scan is None or scan.scans > limit


def _next_marker(body: bytes, position: int) -> int:
    """Return the offset of the marker at `position`, skipping fill bytes; -1 if there is none."""
    end = _FILL.match(body, position).end()  # type: ignore[union-attr]
    return end - 1 if position < end < len(body) else -1


def _segment_end(body: bytes, position: int, marker: int) -> int:
    if marker in _STANDALONE:
        return position + 2
    length = int.from_bytes(body[position + 2 : position + 4], "big")
    end = position + 2 + length
    if length < 2 or end > len(body):
        return -1
    if marker != _SOS:
        return end
    found = _MARKER.search(body, end)
    return -1 if found is None else found.start()


def _needed(body: bytes, position: int, marker: int) -> bool:
    """Return whether decoders need a segment; of JFIF's and Adobe's, not those that are cut short."""
    if marker in _NEEDED:
        return True
    if marker == _APP0:
        return body.startswith(b"JFIF\0", position + 4) and _payload(body, position) >= _SHORTEST_JFIF
    return marker == _APP14 and body.startswith(b"Adobe", position + 4) and _payload(body, position) >= _SHORTEST_ADOBE


def _payload(body: bytes, position: int) -> int:
    length = int.from_bytes(body[position + 2 : position + 4], "big") - 2
    return length if position + 4 + length <= len(body) else -1

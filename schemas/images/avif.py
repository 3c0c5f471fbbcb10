"""Check the tables of AVIF files, and hide their EXIF, which Pillow reads with all that it claims."""

import re
import struct
from collections.abc import Iterator

from openwit.schemas.images.faults import MAX_PARTS, ImageFault, ImageFileError
from openwit.schemas.images.picture import Picture

_BOX = struct.Struct(">I4s")
# The entry of an item that is EXIF: version 2 or 3 with a number of 16 or 32 bits, protection, type.
_EXIF_ITEM = re.compile(rb"(infe[\x02\x03].{3}(?:.{4}|.{6}))Exif", re.DOTALL)
# Decoders search lists of items, and of samples of an animation, once for each of their entries.
_MAX_TABLE_BYTES = 1 << 18
_TABLES = (b"iinf", b"iloc", b"iref", b"grpl", b"pitm", b"hdlr", b"dinf")


def avif_picture(body: bytes) -> Picture:
    """Return the file with its EXIF items renamed: orientation is a property of the picture in this format.

    Raises:
        ImageFileError: its tables are larger than any program writes.
    """
    clean = body
    for kind, start, end in _boxes(body, 0, len(body)):
        if kind == b"moov" and end - start > _MAX_TABLE_BYTES:
            raise ImageFileError(ImageFault.TOO_MANY_PARTS, "an index of too many frames")
        if kind != b"meta":
            continue
        for inner, inner_start, inner_end in _boxes(body, start + 4, end):
            size = inner_end - inner_start
            if inner in _TABLES and size > _MAX_TABLE_BYTES:
                raise ImageFileError(ImageFault.TOO_MANY_PARTS, f"a table of items of {size:,} bytes")
            if inner == b"iinf":
                table = _EXIF_ITEM.sub(rb"\1none", body[inner_start:inner_end])
                clean = b"".join((clean[:inner_start], table, clean[inner_end:]))
    return Picture(clean)


def _boxes(body: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the content of each box."""
    for _ in range(MAX_PARTS):
        if position + 8 > end:
            return
        size, kind = _BOX.unpack_from(body, position)
        start = position + 8
        if size == 1 and position + 16 <= end:
            size, start = int.from_bytes(body[position + 8 : position + 16], "big"), position + 16
        stop = end if size == 0 else min(position + size, end)
        if stop < start:
            return
        yield kind, start, stop
        position = stop
    raise ImageFileError(ImageFault.TOO_MANY_PARTS, f"more than {MAX_PARTS:,} boxes")

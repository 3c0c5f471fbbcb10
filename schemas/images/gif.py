"""Take everything but the first frame's description out of what precedes the picture data of GIF files."""

import re
import struct

from openwit.schemas.images.faults import ImageFault, ImageFileError
from openwit.schemas.images.picture import Picture

_BLOCK = re.compile(rb"[!,;]")
_CONTROL = 0xF9
# Of up to 255 bytes each: blocks of full size hold 16 MB.
_MAX_BLOCKS = 65_536


def gif_picture(body: bytes) -> Picture:
    """Keep screen, palettes, transparency and picture data; leave out comments and other extensions.

    Raises:
        ImageFileError: there is no frame, or more blocks of comments than any program writes.
    """
    if len(body) < 13:
        raise ImageFileError(ImageFault.TRUNCATED, "no frame")
    position = 13 + _palette_bytes(body[10])
    kept = [body[:position]]
    control = b""
    blocks = 0
    while True:
        found = _BLOCK.search(body, position)
        if found is None:
            raise ImageFileError(ImageFault.TRUNCATED, "no frame")
        position = found.start()
        if body[position] == ord(","):
            return Picture(b"".join((*kept, control, body[position:])))
        if body[position] == ord(";"):
            raise ImageFileError(ImageFault.BROKEN, "no frame")
        label, position = body[position + 1 : position + 2], position + 2
        if label == bytes((_CONTROL,)) and body[position : position + 1] == b"\x04":
            control = struct.pack("BBB", ord("!"), _CONTROL, 4) + body[position + 1 : position + 5] + b"\0"
        while position < len(body) and body[position]:
            position += 1 + body[position]
            blocks += 1
            if blocks > _MAX_BLOCKS:
                raise ImageFileError(ImageFault.TOO_MANY_PARTS, f"more than {_MAX_BLOCKS:,} blocks of comments")
        position += 1
        blocks += 1


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0

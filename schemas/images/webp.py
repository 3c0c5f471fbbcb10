"""Take the metadata and all frames but the first out of WebP files."""

import struct

from openwit.schemas.images.exif import orientation_of
from openwit.schemas.images.faults import MAX_PARTS, MAX_PROFILE_BYTES, ImageFault, ImageFileError
from openwit.schemas.images.picture import Picture

_CHUNK = struct.Struct("<4sI")
_FRAMES = (b"VP8 ", b"VP8L", b"ANMF")
# Flags of the extended header that announce a colour profile, EXIF and XMP.
_METADATA_FLAGS = 0x20 | 0x08 | 0x04


def webp_picture(body: bytes) -> Picture:
    """Keep the extended header, the alpha channel and the first frame, with sizes that are true.

    Raises:
        ImageFileError: there is no frame, or there are more chunks before it than any program writes.
    """
    kept: list[bytes] = []
    profile, exif = b"", b""
    framed = False
    position = 12
    for _ in range(MAX_PARTS):
        if position + 8 > len(body):
            break
        kind, length = _CHUNK.unpack_from(body, position)
        value = body[position + 8 : position + 8 + length] if kind != b"XMP " else b""
        if kind == b"ICCP":
            profile = profile or value
        elif kind == b"EXIF":
            exif = exif or value
        elif kind == b"VP8X" and not kept and len(value) >= 10:
            kept.append(_chunk(kind, bytes((value[0] & ~_METADATA_FLAGS,)) + value[1:10]))
        elif kind in (b"ANIM", b"ALPH") and not framed:
            kept.append(_chunk(kind, value))
        elif kind in _FRAMES and not framed:
            kept.append(_chunk(kind, value))
            framed = True
        position += 8 + length + length % 2
    else:
        if not framed:
            raise ImageFileError(ImageFault.TOO_MANY_PARTS, f"more than {MAX_PARTS:,} chunks")
    if not framed:
        raise ImageFileError(ImageFault.TRUNCATED, "no frame")
    clean = b"".join(kept)
    icc_profile = profile if 0 < len(profile) <= MAX_PROFILE_BYTES else None
    return Picture(_CHUNK.pack(b"RIFF", len(clean) + 4) + b"WEBP" + clean, orientation_of(exif), icc_profile)


def _chunk(kind: bytes, value: bytes) -> bytes:
    return _CHUNK.pack(kind, len(value)) + value + bytes(len(value) % 2)

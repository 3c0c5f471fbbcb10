"""Take the metadata out of PNG files, and put their picture data into one chunk."""

import re
import struct
import zlib

from openwit.schemas.images.exif import orientation_of
from openwit.schemas.images.faults import MAX_PROFILE_BYTES, ImageFault, ImageFileError
from openwit.schemas.images.picture import Picture

_START = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")
_KIND = re.compile(rb"[A-Za-z]{4}")
_RESUME = re.compile(rb"PLTE|IDAT")
_PALETTE = 3
# Bytes of a colour key by colour type: one grey value, or red, green and blue.
_KEY_BYTES = {0: 2, 2: 6}
_MAX_CHUNKS = 100_000


def png_picture(body: bytes) -> Picture:
    """Keep header, palette, transparency and picture data.

    Chunks that are not needed may be damaged or large, and are never unpacked, except for a colour profile up to its
    limit. A damaged header or palette is an error, as the pixels would be guessed.

    Raises:
        ImageFileError: there is no picture data, a chunk that it needs is damaged, or there are too many chunks.
    """
    header, palette, transparency = b"", b"", b""
    profile: bytes | None = None
    exif = b""
    data: list[bytes] = []
    position, chunks = len(_START), 0
    while position + 8 <= len(body):
        length, kind = _CHUNK.unpack_from(body, position)
        end = position + 12 + length
        critical = kind in (b"IHDR", b"PLTE", b"IDAT")
        if not critical and (end > len(body) or _KIND.fullmatch(kind) is None):
            # A chunk that is not needed has an impossible length or name: go on at the next one that is.
            found = None if data else _RESUME.search(body, position + 8)
            if found is None:
                break
            position = found.start() - 4
            chunks += 1000
        elif kind == b"IEND":
            break
        else:
            value = body[position + 8 : min(end - 4, len(body))]
            if kind == b"IDAT":
                data.append(value)
            elif kind in (b"IHDR", b"PLTE"):
                if not _intact(body, position, end):
                    raise ImageFileError(ImageFault.BROKEN, f"a damaged {kind.decode()}")
                header, palette = (header or value, palette) if kind == b"IHDR" else (header, palette or value)
            elif kind in (b"tRNS", b"iCCP", b"eXIf") and _intact(body, position, end):
                if kind == b"tRNS" and not data:
                    transparency = transparency or value
                elif kind == b"iCCP":
                    profile = profile or _unpacked_profile(value)
                elif kind == b"eXIf":
                    exif = exif or value
            position = end
        chunks += 1
        if chunks > _MAX_CHUNKS:
            raise ImageFileError(ImageFault.TOO_MANY_PARTS, f"more than {_MAX_CHUNKS:,} chunks")
    if len(header) != 13 or not data:
        raise ImageFileError(ImageFault.TRUNCATED, "no picture data")
    colour = header[9]
    kept = [_START, _chunk(b"IHDR", header)]
    if colour == _PALETTE and palette:
        kept.append(_chunk(b"PLTE", palette[: 768 - 768 % 3]))
    fits = 1 <= len(transparency) <= 256 if colour == _PALETTE else len(transparency) == _KEY_BYTES.get(colour, -1)
    if fits:
        kept.append(_chunk(b"tRNS", transparency))
    size = sum(map(len, data))
    # Decoders that check the sum of picture data would read a file that is not written by us.
    kept += (_CHUNK.pack(size, b"IDAT"), *data, bytes(4), _chunk(b"IEND", b""))
    return Picture(b"".join(kept), orientation_of(exif), profile)


def _intact(body: bytes, position: int, end: int) -> bool:
    return end <= len(body) and zlib.crc32(body[position + 4 : end - 4]).to_bytes(4, "big") == body[end - 4 : end]


def _chunk(kind: bytes, value: bytes) -> bytes:
    return _CHUNK.pack(len(value), kind) + value + zlib.crc32(kind + value).to_bytes(4, "big")


def _unpacked_profile(value: bytes) -> bytes | None:
    """Return the profile of an iCCP chunk; None if it is damaged or too large."""
    name_end = value.find(b"\0", 0, 80)
    if name_end < 0 or value[name_end + 1 : name_end + 2] != b"\0":
        return None
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(value[name_end + 2 :], MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if unpacker.eof else None

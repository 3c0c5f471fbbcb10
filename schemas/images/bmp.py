"""Unpack run-length coded BMP files, which Pillow does pixel by pixel in Python."""

import struct

from openwit.schemas.images.faults import ImageFault, ImageFileError
from openwit.schemas.images.picture import Picture

_RLE8, _RLE4 = 1, 2
# Width, height, planes, bits and compression, behind the length of the header.
_HEADER = struct.Struct("<iiHHI")
_MAX_RUNS = 400_000
_MAX_PIXELS = 50_000_000


def bmp_picture(body: bytes) -> Picture:
    """Return a BMP file as it is, or unpacked if it is run-length coded.

    Raises:
        ImageFileError: the runs are more, or claim more, than is ever written so.
    """
    if len(body) < 54 or int.from_bytes(body[14:18], "little") < 40:
        return Picture(body)
    width, height, planes, bits, compression = _HEADER.unpack_from(body, 18)
    if compression not in (_RLE8, _RLE4) or bits != (8 if compression == _RLE8 else 4):
        return Picture(body)
    if width <= 0 or height <= 0:
        raise ImageFileError(ImageFault.BROKEN, f"{width} x {height}")
    if width * height > _MAX_PIXELS:
        raise ImageFileError(ImageFault.TOO_MANY_PIXELS, f"{width} x {height}")
    colours = int.from_bytes(body[46:50], "little") or 1 << bits
    at, palette_at = int.from_bytes(body[10:14], "little"), 14 + int.from_bytes(body[14:18], "little")
    if colours > 1 << bits or not palette_at <= at <= len(body):
        raise ImageFileError(ImageFault.BROKEN, "the palette has no place")
    if at == palette_at:
        at += 4 * colours  # some writers forget to count it
    rows = _unpacked(body, at, (width, height), nibbles=bits == 4)
    head = bytearray(body[:at])
    head[10:14] = at.to_bytes(4, "little")
    _HEADER.pack_into(head, 18, width, height, planes, 8, 0)
    head[46:50] = colours.to_bytes(4, "little")
    return Picture(bytes(head) + rows)


def _unpacked(body: bytes, position: int, size: tuple[int, int], *, nibbles: bool) -> bytes:
    """Return the rows, bottom up, of one byte a pixel, each padded to four bytes; what no run covers is zero."""
    width, height = size
    stride = (width + 3) // 4 * 4
    rows = bytearray(stride * height)
    x = y = 0
    for _ in range(_MAX_RUNS):
        count, value = body[position : position + 1], body[position + 1 : position + 2]
        position += 2
        if not value or y >= height:
            break
        run = b""
        if count[0]:
            run = (bytes((value[0] >> 4, value[0] & 15)) * 128)[: count[0]] if nibbles else value * count[0]
        elif value[0] == 0:
            x, y = 0, y + 1
        elif value[0] == 1:
            break
        elif value[0] == 2:
            step = body[position : position + 2].ljust(2, b"\0")
            x, y, position = x + step[0], y + step[1], position + 2
        else:
            packed = (value[0] + 1) // 2 if nibbles else value[0]
            run = body[position : position + packed]
            run = (bytes(half for byte in run for half in (byte >> 4, byte & 15)) if nibbles else run)[: value[0]]
            position += packed + packed % 2
        run = run[: max(0, width - x)]
        if run and y < height:
            rows[y * stride + x : y * stride + x + len(run)] = run
            x += len(run)
    else:
        raise ImageFileError(ImageFault.TOO_MANY_PARTS, f"more than {_MAX_RUNS:,} runs")
    return bytes(rows)

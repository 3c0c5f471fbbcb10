"""Detect a format from magic bytes; Content-Type and file name are ignored."""

import struct

ENDINGS = {
    "JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff", "AVIF": "avif",
}  # fmt: skip
"""Pillow's name of a format to the ending of its files in shards, which is the name of the format in tables."""
_SNIFF_BYTES = 512


def sniff_format(body: bytes) -> str | None:
    """Return Pillow's name of the image format (JPEG, PNG, GIF, WEBP, BMP, TIFF, AVIF), or None for anything else."""
    if body.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if body.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "WEBP"
    if body.startswith(b"BM") and len(body) > 26 and body[14:18] in _BMP_HEADER_SIZES:
        return "BMP"
    if body.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if body[4:8] == b"ftyp" and _is_avif(body):
        return "AVIF"
    return None


def describe(body: bytes) -> str:
    """Describe bytes that are not an image, for a drop's detail."""
    head = body[:_SNIFF_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not body:
        return "empty"
    if b"<svg" in head:
        return "svg"
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "html"
    for start, name in _OTHERS:
        if body.startswith(start) or head.startswith(start):
            return name
    if body[4:8] == b"ftyp":
        return f"iso media {body[8:12].decode('latin-1').strip()!r}"
    return f"starts with {body[:8].hex()}"


def webp_size(body: bytes) -> tuple[int, int] | None:
    """Return the width and height in a WebP header, or None if it has none.

    Pillow's reader allocates the canvas before its size can be checked.
    """
    kind, data = body[12:16], body[20:30]
    if len(data) < 10:
        return None
    if kind == b"VP8X":
        width, height = int.from_bytes(data[4:7], "little"), int.from_bytes(data[7:10], "little")
        return width + 1, height + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return None


_BMP_HEADER_SIZES = frozenset(struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124))
_OTHERS = (
    (b"%PDF", "pdf"),
    (b"%pdf", "pdf"),
    (b"<?xml", "xml"),
    (b"<", "markup"),
    (b"{", "json"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"\0\0\x01\0", "icon"),
    (b"\x1aE\xdf\xa3", "matroska or webm"),
)


def _is_avif(body: bytes) -> bool:
    """Return whether an ISO media file lists AVIF among its brands."""
    size = int.from_bytes(body[:4], "big")
    brands = body[8 : min(max(size, 16), 256)]
    return any(brands[i : i + 4] in (b"avif", b"avis") for i in (0, *range(8, len(brands), 4)))

"""Undo content codings (RFC 9110 section 8.4) with a limit on size, and recognise words that are no codings.

Servers declare charsets (`utf-8`), storage formats (`aws-chunked`) and nothing at all (`identity`, `none`) as codings.
"""

import io
import zlib
from typing import NamedTuple

from fastwarc.stream_io import BrotliReader, ZstdReader

CODINGS = frozenset({"gzip", "deflate", "br", "zstd"})
ACCEPTED = "gzip, deflate, br, zstd"

_ALIASES = {"x-gzip": "gzip", "x-deflate": "deflate", "brotli": "br"}
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_CHUNK_BYTES = 65_536


class BadCodingError(ValueError):
    """The data is damaged before any of it could be decoded."""


class DecodedTooLargeError(ValueError):
    """The decoded data exceeds the limit."""


class Decoded(NamedTuple):
    """Decoded data, and whether it reached its end."""

    body: bytes
    complete: bool


def codings_of(value: str) -> list[str]:
    """Return the codings in a Content-Encoding or Transfer-Encoding, in the order in which they were applied."""
    words = (word.partition(";")[0].strip().strip("\"'").lower() for word in value.split(","))
    return [coding for word in words if (coding := _ALIASES.get(word, word)) in CODINGS]


def is_coded(body: bytes, coding: str) -> bool:
    """Return whether data can be of a coding: some have a magic number, of others only text is excluded."""
    if coding == "gzip":
        return body.startswith(_GZIP_MAGIC)
    if coding == "zstd":
        return body.startswith(_ZSTD_MAGIC)
    return _is_zlib(body) if coding == "deflate" and body[:1] == b"x" else body.lstrip()[:1] != b"<"


def decode(body: bytes, coding: str, max_bytes: int) -> Decoded:
    """Undo one coding; data that ends early is returned up to that point.

    Raises:
        BadCodingError, DecodedTooLargeError: see there.
    """
    if coding == "gzip":
        return _inflate(body, zlib.MAX_WBITS | 16, max_bytes)
    if coding == "deflate":
        # Servers send both zlib streams and raw deflate under this name.
        return _inflate(body, zlib.MAX_WBITS if _is_zlib(body) else -zlib.MAX_WBITS, max_bytes)
    reader = BrotliReader(io.BytesIO(body)) if coding == "br" else ZstdReader(io.BytesIO(body))
    return _drain(reader, coding, max_bytes)


def _is_zlib(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _inflate(body: bytes, window: int, max_bytes: int) -> Decoded:
    inflater = zlib.decompressobj(window)
    parts: list[bytes] = []
    total = 0
    data = body
    complete = False
    try:
        while data and total <= max_bytes:
            part = inflater.decompress(data, _CHUNK_BYTES)
            parts.append(part)
            total += len(part)
            data = inflater.unconsumed_tail
            if inflater.eof:
                data, complete = inflater.unused_data, True
                if window <= zlib.MAX_WBITS or not data.startswith(_GZIP_MAGIC):
                    break
                inflater, complete = zlib.decompressobj(window), False
    except zlib.error as error:
        if not total:
            raise BadCodingError(f"damaged compressed body: {error}") from error
    if total > max_bytes:
        raise DecodedTooLargeError(f"more than {max_bytes} bytes once decompressed")
    return Decoded(b"".join(parts), complete)


def _drain(reader: BrotliReader | ZstdReader, coding: str, max_bytes: int) -> Decoded:
    parts: list[bytes] = []
    total = 0
    complete = True
    try:
        while total <= max_bytes and (part := reader.read(_CHUNK_BYTES)):
            parts.append(part)
            total += len(part)
    except OSError as error:
        complete = False
        if not parts:
            raise BadCodingError(f"damaged {coding} body: {error}") from error
    if total > max_bytes:
        raise DecodedTooLargeError(f"more than {max_bytes} bytes once decompressed")
    return Decoded(b"".join(parts), complete)

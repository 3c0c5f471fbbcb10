"""Parse an HTTP response in an archive: header block and body, with the encodings decoded.

Archives hold what servers sent, which is not always HTTP: line ends may be LF alone, the status text may be missing, a
body may not be chunked or compressed although its header declares it (crawlers store it decoded and keep the header).
All functions take bytes and return whatever can be read.
"""

import io
import re
import zlib
from dataclasses import dataclass

from fastwarc.stream_io import BrotliReader, ZstdReader

MAX_HEADER_BYTES = 65_536

_HEADER_END = re.compile(rb"\r?\n\r*\n")
_STATUS_LINE = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})", re.IGNORECASE)
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([^\s"';,]+)""", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")

_CHUNK_BYTES = 65_536


class BadMessageError(ValueError):
    """The bytes are not an HTTP response, or its body cannot be decoded; the message describes the bytes."""


class BodyTooLargeError(ValueError):
    """The decoded body exceeds the size limit."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """Status, the header fields (lower-case names) that are needed to read the body, and the offset of the body."""

    status: int
    fields: dict[str, str]
    body_start: int

    @property
    def media_type(self) -> str:
        """Return `text/html` of `text/html; charset=utf-8`; empty if the server named none."""
        return self.fields.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str | None:
        """Return the charset parameter of the Content-Type field, as written by the server."""
        return charset_of(self.fields.get("content-type", ""))


def charset_of(content_type: str) -> str | None:
    """Return the charset in a Content-Type value, or None."""
    found = _CHARSET.search(content_type)
    return found.group(1) if found else None


def parse_response(message: bytes) -> HttpResponse:
    """Parse the header block (RFC 9112 section 2.2, with the leniency that crawls need).

    Raises:
        BadMessageError: there is no status line, or the header block does not end within `MAX_HEADER_BYTES`.
    """
    status = _STATUS_LINE.match(message)
    if status is None:
        raise BadMessageError(f"no HTTP status line: {bytes(message[:40])!r}")
    end = _HEADER_END.search(message, 0, MAX_HEADER_BYTES)
    if end is None:
        if len(message) >= MAX_HEADER_BYTES:
            raise BadMessageError("HTTP header without end")
        return HttpResponse(int(status.group(1)), _fields(message), len(message))
    return HttpResponse(int(status.group(1)), _fields(message[: end.start()]), end.end())


def decode_body(body: bytes, fields: dict[str, str], *, max_bytes: int) -> bytes:
    """Decode transfer and content encodings (chunked; gzip, deflate, br, zstd), if the bytes really have them.

    A body that only claims an encoding is returned unchanged; one that ends early is returned up to that point.

    Args:
        body: bytes after the header block.
        fields: header fields by lower-case name.
        max_bytes: maximum decoded size.

    Raises:
        BadMessageError: the compressed data is damaged before any of it could be read.
        BodyTooLargeError: the decoded body is larger than `max_bytes`.
    """
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body = _dechunk(body)
    for encoding in reversed(fields.get("content-encoding", "").lower().split(",")):
        body = _decompress(body, encoding.strip(), max_bytes)
    if len(body) > max_bytes:
        raise BodyTooLargeError(f"{len(body)} bytes")
    return body


def _fields(header: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in header.split(b"\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            key = name.strip().lower().decode("latin-1")
            # Of two different Content-Type fields the first counts, as in browsers.
            fields.setdefault(key, value.strip().decode("latin-1"))
    return fields


def _dechunk(body: bytes) -> bytes:
    parts: list[bytes] = []
    position = 0
    while size_line := _CHUNK_SIZE.match(body, position):
        size = int(size_line.group(1), 16)
        if size == 0:
            return b"".join(parts)
        start = size_line.end()
        parts.append(body[start : start + size])
        position = start + size
        # CRLF after the chunk's data
        if body.startswith(b"\r\n", position):
            position += 2
        elif body.startswith(b"\n", position):
            position += 1
    if not parts:
        return body  # the crawler stored the decoded body
    return b"".join((*parts, body[position:]))  # a damaged size line: the rest is most likely still the body


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    if encoding in ("gzip", "x-gzip"):
        return _inflate(body, zlib.MAX_WBITS | 16, max_bytes) if body.startswith(b"\x1f\x8b") else body
    if encoding == "deflate":
        # Servers send both zlib streams and raw deflate under this name.
        is_zlib = len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
        if not is_zlib and body.lstrip()[:1] == b"<":
            return body
        return _inflate(body, zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS, max_bytes)
    if encoding == "br":
        return body if body.lstrip()[:1] == b"<" else _drain(BrotliReader(io.BytesIO(body)), encoding, max_bytes)
    if encoding == "zstd":
        is_zstd = body.startswith(b"\x28\xb5\x2f\xfd")
        return _drain(ZstdReader(io.BytesIO(body)), encoding, max_bytes) if is_zstd else body
    return body


def _inflate(body: bytes, window: int, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(window)
    parts = []
    total = 0
    data = body
    try:
        while data and total <= max_bytes and not inflater.eof:
            part = inflater.decompress(data, _CHUNK_BYTES)
            data = inflater.unconsumed_tail
            parts.append(part)
            total += len(part)
    except zlib.error as error:
        if not parts:
            raise BadMessageError(f"damaged compressed body: {error}") from error
    if total > max_bytes:
        raise BodyTooLargeError(f"more than {max_bytes} bytes once decompressed")
    return b"".join(parts)


def _drain(reader: BrotliReader | ZstdReader, encoding: str, max_bytes: int) -> bytes:
    parts = []
    total = 0
    try:
        while total <= max_bytes and (part := reader.read(_CHUNK_BYTES)):
            parts.append(part)
            total += len(part)
    except OSError as error:
        if not parts:
            raise BadMessageError(f"damaged {encoding} body: {error}") from error
    if total > max_bytes:
        raise BodyTooLargeError(f"more than {max_bytes} bytes once decompressed")
    return b"".join(parts)

"""Parse an HTTP response in an archive: header block and body, with the encodings decoded.

Archives hold what servers sent, which is not always HTTP: line ends may be LF alone, the status text may be missing, a
body may not be chunked or compressed although its header declares it (crawlers store it decoded and keep the header).
All functions take bytes and return whatever can be read.
"""

import re
from dataclasses import dataclass

from openwit.pipeline.common.codings import BadCodingError, DecodedTooLargeError, codings_of, decode, is_coded

MAX_HEADER_BYTES = 65_536

_HEADER_END = re.compile(rb"\r?\n\r*\n")
_STATUS_LINE = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})", re.IGNORECASE)
_CHARSET = re.compile(r"""charset\s*=\s*(?:["']\s*)?([^\s"';,]+)""", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_GZIP_MAGIC = b"\x1f\x8b\x08"
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


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

    A body that only claims an encoding is returned unchanged, and one that is gzip without saying so is decoded; one
    that ends early is returned up to that point. Words that are no encoding (`utf-8`, `aws-chunked`) are ignored.

    Args:
        body: bytes after the header block.
        fields: header fields by lower-case name.
        max_bytes: maximum decoded size.

    Raises:
        BadMessageError: the compressed data is damaged before any of it could be read.
        BodyTooLargeError: the decoded body is larger than `max_bytes`.
    """
    transfer = fields.get("transfer-encoding", "")
    if "chunked" in transfer.lower():
        body = _dechunk(body)
    codings = [*codings_of(fields.get("content-encoding", "")), *codings_of(transfer)]
    for coding in reversed(codings):
        body = _decode(body, coding, max_bytes)
    if body.startswith(_GZIP_MAGIC):
        try:
            body = _decode(body, "gzip", max_bytes)
        except BadMessageError:
            if codings:
                raise
    if len(body) > max_bytes:
        raise BodyTooLargeError(f"{len(body)} bytes")
    return body


def _decode(body: bytes, coding: str, max_bytes: int) -> bytes:
    if not is_coded(body, coding):
        return body
    try:
        return decode(body, coding, max_bytes).body
    except BadCodingError as error:
        if _NO_TEXT.search(body, 0, 4096) is None:
            return body  # plain text after all
        raise BadMessageError(str(error)) from error
    except DecodedTooLargeError as error:
        raise BodyTooLargeError(str(error)) from error


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

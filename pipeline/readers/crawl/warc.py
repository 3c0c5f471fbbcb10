"""Read the pages of a crawl: HTML responses of WARC (ISO 28500) and ARC files, decoded to the document's bytes.

Real archives are damaged, and real servers do not follow HTTP. Whatever can be read is read; every record that is not
a page is dropped with one of `PAGE_REASONS`, so that records = pages + the sum of the reasons.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from fastwarc import ArchiveIterator, WarcRecordType
from fastwarc.warc import WarcRecordPayloadReader

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.common.urls import resolve
from openwit.pipeline.readers.crawl.arc import ARC_START, read_arc_records
from openwit.pipeline.readers.crawl.archive_file import (
    ARCHIVE_DAMAGED,
    COMPRESSION_MAGICS,
    GZIP_MAGIC,
    WARC_MARK,
    ArchiveRecord,
    DamageCount,
    RecordRange,
    Source,
    open_source,
    recover,
)
from openwit.pipeline.readers.crawl.archive_parts import next_record_start
from openwit.pipeline.readers.crawl.http_message import (
    MAX_HEADER_BYTES,
    BadMessageError,
    BodyTooLargeError,
    decode_body,
    parse_response,
)
from openwit.pipeline.readers.crawl.loose_warc import read_loose_records
from openwit.pipeline.readers.crawl.plain_stream import plain_stream

MAX_BODY_BYTES = 16 << 20

NOT_RESPONSE = Reason("not_response", "a record that is no server's answer (request, metadata …)")
REVISIT = Reason("revisit", "a page unchanged since an earlier crawl")
NOT_HTTP = Reason("not_http", "an answer of another protocol than HTTP")
BAD_HTTP = Reason("bad_http", "an answer whose HTTP is broken")
NOT_200 = Reason("not_200", "an answer with another status than 200")
NOT_HTML = Reason("not_html", "an answer that is no HTML")
EMPTY_PAGE = Reason("empty_page", "a page without content")
PAGE_TOO_LARGE = Reason("page_too_large", "a page larger than is read")
TOO_NESTED = Reason("too_nested", "a page nested deeper than is read")
DAMAGED_RECORD = Reason("damaged_record", "a record that could not be read")

PAGE_REASONS = (
    NOT_RESPONSE,
    REVISIT,
    NOT_HTTP,
    BAD_HTTP,
    NOT_200,
    NOT_HTML,
    EMPTY_PAGE,
    PAGE_TOO_LARGE,
    TOO_NESTED,
    DAMAGED_RECORD,
)
"""Why a record is not a page. Each such record has exactly one reason."""

RECORDS = "records"
CUT_SHORT = "cut_short"
BAD_PAGE_URL = "bad_page_url"
PAGE_NOTES = (RECORDS, CUT_SHORT, BAD_PAGE_URL, ARCHIVE_DAMAGED)
"""Notes counted beside the reasons: records seen, pages whose data ends early, pages whose URL is not an http(s) URL
(only absolute references on them can be resolved), damaged stretches of the file."""

HTML_TYPES = ("text/html", "application/xhtml+xml")
# The time of HTML parsers grows with the square of the depth: 50,000 open <div> take 5 s, a million half an hour.
_MOST_UNCLOSED_TAGS = 50_000
_HARMLESS_BYTES = 5 * _MOST_UNCLOSED_TAGS
_LESS = ord("<")
_BAD_HEADER = "Invalid WARC header"  # FastWARC's words
_KINDS = frozenset({
    "warcinfo", "response", "resource", "request", "metadata", "revisit", "conversion", "continuation",
})  # fmt: skip
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Page:
    """An HTML document as a server sent it.

    Attributes:
        url: absolute URL of the page; as in the archive if that is not an http(s) URL.
        body: the document's bytes, transfer and content encodings undone.
        charset: from the Content-Type header, or None.
        record_offset: first byte of the record in the archive.
        date: when it was fetched, ISO 8601, or None.
        status: HTTP status.
    """

    url: str
    body: bytes
    charset: str | None
    record_offset: int
    date: str | None
    status: int


def read_pages(
    source: Source,
    count: Count = ignore,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    span: RecordRange | None = None,
) -> Iterator[Page]:
    """Yield the HTML pages of a WARC or ARC file (plain, gzip, or for WARC also zstd and lz4) in file order.

    Args:
        source: a path, a URL for fsspec, or an open binary file.
        count: receives `RECORDS` for each record, one of `PAGE_REASONS` for each that is not a page, and the notes.
        max_body_bytes: larger pages are dropped, which limits memory.
        span: read these records only; for archives with a gzip member a record, see `archive_parts.can_be_split`.

    Raises:
        DataError, NetworkError: the file cannot be opened. Damage inside is counted, never raised.
    """
    file, stack = open_source(source)
    with stack:
        for record in read_records(file, max_body_bytes + MAX_HEADER_BYTES, count=count, span=span):
            count(RECORDS)
            page = _page(record, count, max_body_bytes)
            if page is not None:
                if record.cut_short:
                    count(CUT_SHORT, 1, f"offset {record.offset}")
                yield page


def is_http_response(kind: str, is_http: bool) -> bool:
    """Return whether a WARC record is the response of a web server."""
    return kind == "response" and is_http


def read_records(
    file: BinaryIO,
    max_block: int,
    *,
    count: Count,
    wanted: Callable[[str, bool], bool] = is_http_response,
    span: RecordRange | None = None,
) -> Iterator[ArchiveRecord]:
    """Yield every record of a WARC or ARC file, past damaged stretches.

    Args:
        file: seekable, at its start.
        max_block: larger blocks are not read.
        count: receives each damaged stretch.
        wanted: selects the WARC records whose block is read, by WARC-Type and whether they are HTTP messages; the
            others get an empty block.
        span: read these records only, of an archive with a gzip member a record.
    """
    span = span or RecordRange()
    head = file.read(len(ARC_START)) if not span.start else GZIP_MAGIC
    file.seek(0)
    counting = DamageCount(count)
    magic = next((m for m in COMPRESSION_MAGICS if head.startswith(m)), None)
    if not span.start and _starts_as_arc(file, magic):
        read = functools.partial(read_arc_records, max_block=max_block, count=counting)
        mark = magic
    else:
        falls_back = magic in (None, GZIP_MAGIC)
        read = functools.partial(
            _read_warc_records, max_block=max_block, wanted=wanted, count=counting, falls_back=falls_back
        )
        mark = magic or WARC_MARK
    if span.start and not span.exact:
        start = next_record_start(file, span.start)
        if start is None or (span.end is not None and start >= span.end):
            return
        span.start = start
    yield from recover(file, read, record_mark=mark, count=counting, span=span)
    if span.first is None and not span.start:
        count(ARCHIVE_DAMAGED, 1, "no record found: neither WARC nor ARC")


def _starts_as_arc(file: BinaryIO, magic: bytes | None) -> bool:
    try:
        head = plain_stream(file).read(len(ARC_START)) if magic in (None, GZIP_MAGIC) else b""
    except OSError:
        head = b""
    file.seek(0)
    return bytes(head or b"") == ARC_START


def _read_warc_records(
    file: BinaryIO, max_block: int, wanted: Callable[[str, bool], bool], *, count: Count, falls_back: bool
) -> Iterator[ArchiveRecord]:
    """Yield records by FastWARC, and by the patient reader from the first one on that it cannot read.

    One record is held back until the next begins where its length says.
    """
    start, yielded = file.tell(), 0
    held: ArchiveRecord | None = None
    try:
        for record in _fast_records(file, max_block, wanted):
            if held is not None:
                yield held
                yielded += 1
            held = record
        if not falls_back or held is None or not held.cut_short:
            if held is not None:
                yield held
            return
    except OSError as error:
        if not falls_back or _BAD_HEADER not in str(error):
            if held is not None:
                yield held
            raise
    compressed = _begins_with_gzip(file, start)
    # A plain file is read again from the held record on, a compressed one from its start: records share members.
    file.seek(start if held is None or compressed else held.offset)
    yield from read_loose_records(
        plain_stream(file), max_block, wanted, count=count, skip=yielded if compressed else 0
    )


def _begins_with_gzip(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _fast_records(file: BinaryIO, max_block: int, wanted: Callable[[str, bool], bool]) -> Iterator[ArchiveRecord]:
    for record in ArchiveIterator(
        file, record_types=WarcRecordType.any_type, parse_http=False, auto_decode="none", fsspec_args=False
    ):
        headers = record.headers
        kind = (headers.get("WARC-Type") or "").lower()
        if record.record_type == WarcRecordType.unknown and (kind in _KINDS or "\n" in kind):
            raise OSError(f"{_BAD_HEADER}: not in the standard's form")
        offset = record.stream_pos
        # wget writes the URL in angle brackets, as in a draft of the standard.
        url = (headers.get("WARC-Target-URI") or "").strip().strip("<>")
        date = headers.get("WARC-Date")
        length = record.content_length
        is_http = bool(record.is_http)
        is_read = length <= max_block and wanted(kind, is_http)
        try:
            block = _read_exactly(record.reader, length) if is_read else b""
            seen = len(block) if is_read else record.reader.consume()
        except OSError:
            yield ArchiveRecord(offset, kind, url, date, is_http=is_http, damaged=True)
            raise
        yield ArchiveRecord(
            offset,
            kind,
            url,
            date,
            block=block,
            is_http=is_http,
            too_large=length > max_block,
            cut_short=seen < length,
        )


def _read_exactly(reader: WarcRecordPayloadReader, length: int) -> bytes:
    # A header may claim any length: never allocate it at once.
    parts = []
    left = length
    while left > 0 and (part := reader.read(min(left, _READ_BYTES))):
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _page(record: ArchiveRecord, count: Count, max_body_bytes: int) -> Page | None:
    where = f"offset {record.offset}"
    reason = _record_reason(record)
    if reason is not None:
        count(reason, 1, where if reason == DAMAGED_RECORD else "")
        return None
    try:
        response = parse_response(record.block)
        if response.status != 200:
            count(NOT_200)
            return None
        media_type = response.media_type
        if media_type and media_type not in HTML_TYPES:
            count(NOT_HTML)
            return None
        body = decode_body(record.block[response.body_start :], response.fields, max_bytes=max_body_bytes)
    except BadMessageError as error:
        count(BAD_HTTP, 1, f"{where}: {error}")
        return None
    except BodyTooLargeError as error:
        count(PAGE_TOO_LARGE, 1, f"{where}: {error}")
        return None
    if not body or body.isspace():
        count(EMPTY_PAGE)
        return None
    if not media_type and not _looks_like_html(body):
        count(NOT_HTML)
        return None
    if _is_too_nested(body):
        count(TOO_NESTED, 1, where)
        return None
    url = resolve(None, record.url)
    if url is None:
        count(BAD_PAGE_URL, 1, f"{where}: {record.url[:200]}")
    return Page(url or record.url, body, response.charset, record.offset, record.date, response.status)


def _record_reason(record: ArchiveRecord) -> str | None:
    if record.kind == "revisit":
        return REVISIT
    if record.kind != "response":
        return NOT_RESPONSE
    if record.damaged:
        return DAMAGED_RECORD
    if not record.is_http:
        return NOT_HTTP
    if record.too_large:
        return PAGE_TOO_LARGE
    return None


def _is_too_nested(body: bytes) -> bool:
    """Return whether far more tags are opened than closed: not written by a person, and a trap for parsers."""
    if len(body) <= _HARMLESS_BYTES:
        return False
    tags = int(np.count_nonzero(np.frombuffer(body, np.uint8) == _LESS))  # bytes.count is slower
    return tags > _MOST_UNCLOSED_TAGS and tags - 2 * body.count(b"</") > _MOST_UNCLOSED_TAGS


def _looks_like_html(body: bytes) -> bool:
    head = body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<!--")) or b"<html" in head

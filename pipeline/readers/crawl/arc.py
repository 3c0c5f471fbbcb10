"""Read ARC, the Internet Archive's format before WARC: one header line per record, then the HTTP message.

A header line is `URL IP-address date content-type length` (version 1) or has five more fields before the length
(version 2); http://archive.org/web/researcher/ArcFileFormat.php.
"""

import io
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from openwit.pipeline.common.counting import Count
from openwit.pipeline.readers.crawl.archive_file import ARCHIVE_DAMAGED, ArchiveRecord
from openwit.pipeline.readers.crawl.plain_stream import READ_BYTES, plain_stream

ARC_START = b"filedesc:"

_MAX_LINE = 16_384
_MAX_DIGITS = 18


def read_arc_records(file: BinaryIO, max_block: int, count: Count) -> Iterator[ArchiveRecord]:
    """Yield the captures of an ARC file from the file's position on, without its own `filedesc` record.

    Lines that are not a header where one is expected are skipped, and counted once per damaged stretch.

    Raises:
        OSError: the compressed data is damaged.
    """
    stream = plain_stream(file)
    reader: io.BufferedReader = io.BufferedReader(stream, READ_BYTES)
    in_damage = False
    while True:
        position = reader.tell()
        line = reader.readline(_MAX_LINE)
        if not line:
            return
        if not line.strip():
            continue
        header = _parse_header(line.rstrip(b"\r\n"))
        if header is None:
            if not in_damage:
                count(ARCHIVE_DAMAGED, 1, f"offset {stream.offset_of(position)}: no ARC header where one should be")
            in_damage = True
            continue
        in_damage = False
        record = _read_record(reader, header, stream.offset_of(position), max_block)
        if not header.url.startswith("filedesc:"):
            yield record


class _Header(NamedTuple):
    url: str
    date: str
    length: str


def _parse_header(line: bytes) -> _Header | None:
    """Return the fields of a header line, or None if it is none. A URL may hold blanks: the first date ends it."""
    words = line.decode("utf-8", "replace").split(" ")
    scheme, colon, rest = words[0].partition(":")
    if not colon or not rest or not scheme.isascii() or not scheme[:1].isalpha():
        return None
    for number, word in enumerate(words[2:-2], 2):
        if 8 <= len(word) <= 20 and word.isascii() and word.isdigit() and words[number - 1]:
            return _Header(" ".join(words[: number - 1]), word, words[-1]) if words[-1] else None
    return None


def _read_record(reader: io.BufferedReader, header: _Header, offset: int, max_block: int) -> ArchiveRecord:
    url = header.url
    is_http = url.lower().startswith(("http://", "https://"))
    date = _iso_date(header.date)
    if not (header.length.isascii() and header.length.isdigit() and len(header.length) <= _MAX_DIGITS):
        return ArchiveRecord(offset, "response", url, date, is_http=is_http, damaged=True)
    length = int(header.length)
    wanted = is_http and length <= max_block
    block = bytearray()
    left = length
    while left > 0 and (part := reader.read(min(left, READ_BYTES))):
        left -= len(part)
        if wanted:
            block += part
    return ArchiveRecord(
        offset,
        "response",
        url,
        date,
        block=bytes(block),
        is_http=is_http,
        too_large=length > max_block,
        cut_short=left > 0,
    )


def _iso_date(digits: str) -> str | None:
    if len(digits) < 14:
        return None
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[8:10]}:{digits[10:12]}:{digits[12:14]}Z"

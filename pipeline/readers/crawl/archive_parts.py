"""Find out whether an archive can be read in parts, and where in it a record begins.

In the archives of Common Crawl, and of most tools, each record is a gzip member of its own: reading can begin at any
member whose text begins with a WARC header. Whether that member is one of the archive, or lies within a record that
holds another archive, shows only when the records before it are read: see `first_wrong`.
"""

import zlib
from collections.abc import Sequence
from typing import BinaryIO

from openwit.pipeline.readers.crawl.archive_file import GZIP_MAGIC, LZ4_MAGIC, WARC_MARK, ZSTD_MAGIC, RecordRange

_WINDOW_BYTES = 1 << 18
_MEMBER_BYTES = 1 << 12
_BLANKS = b" \t\r\n\0"
_HEAD_BYTES = 64

ONE_MEMBER = "one-member gzip file"
NOT_GZIP = "uncompressed archive"


def why_not_split(file: BinaryIO, part_bytes: int) -> str:
    """Return why an archive cannot be read in parts, as a noun; "" if it can.

    It can if within `part_bytes` after its beginning a gzip member begins with a WARC header.
    """
    file.seek(0)
    head = file.read(len(ZSTD_MAGIC))
    if not head.startswith(GZIP_MAGIC):
        return "zstd or lz4 archive" if head in (ZSTD_MAGIC, LZ4_MAGIC) else NOT_GZIP
    return ONE_MEMBER if next_record_start(file, 1, limit=max(part_bytes, _WINDOW_BYTES)) is None else ""


def next_record_start(file: BinaryIO, position: int, *, limit: int | None = None) -> int | None:
    """Return the first byte at or after `position` where a gzip member begins whose text is a WARC record.

    Args:
        file: seekable.
        position: in the file.
        limit: bytes after the position that are searched; None searches to the end.
    """
    at = position
    while limit is None or at < position + limit:
        file.seek(at)
        window = file.read(_WINDOW_BYTES)
        found = window.find(GZIP_MAGIC)
        while found >= 0:
            if _is_record(file, at + found):
                return at + found
            found = window.find(GZIP_MAGIC, found + 1)
        if len(window) < _WINDOW_BYTES:
            return None
        at += len(window) - len(GZIP_MAGIC) + 1
    return None


def _is_record(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        text = inflater.decompress(file.read(_MEMBER_BYTES), _HEAD_BYTES).lstrip(_BLANKS)
    except zlib.error:
        return False
    return text.startswith(WARC_MARK)


def first_wrong(spans: Sequence[RecordRange | None]) -> tuple[int, int | None] | None:
    """Return the first range of an archive that was read from a wrong place, or None if there is none.

    Each must begin with the record at which the range before it ended. It does not where a record holds another
    archive as it is stored, or where damage hides a record from who reads on but not from who begins there.

    Args:
        spans: all ranges of the archive, after they were read; None for one that could not be read. Exact ones are
            right.

    Returns:
        Its index, and where its first record begins; None for the latter if there is no record in the range.
    """
    expected: int | None = None
    for index, span in enumerate(spans):
        if span is None:
            return None
        is_reached = expected is not None and (span.end is None or expected < span.end)
        holds = span.first is not None and (span.end is None or span.first < span.end)
        is_right = span.first == expected if is_reached else not holds
        if index and not span.exact and not is_right:
            return index, expected if is_reached else None
        if holds or not index:
            expected = span.after
    return None

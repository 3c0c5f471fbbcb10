"""Read WARC records that are not written as the standard says: what `warc` falls back to when FastWARC gives up.

Accepted are header names in any case, line ends of LF alone, missing or additional separators between records, and
lengths that are missing, too short (the record goes on to the next one) or too long (it ends where the next begins).
"""

import re
from collections.abc import Callable, Iterator

from openwit.pipeline.common.counting import Count
from openwit.pipeline.readers.crawl.archive_file import ARCHIVE_DAMAGED, ArchiveRecord
from openwit.pipeline.readers.crawl.plain_stream import READ_BYTES, PlainStream

_MARK = re.compile(rb"WARC/\d\.\d+[ \t\r]*\n")
_MARK_BYTES = 16
_MAX_LINE = 65_536
_MAX_LINES = 1_000
_MAX_DIGITS = 18
_COMPACT_BYTES = 1 << 20


def read_loose_records(
    stream: PlainStream, max_block: int, wanted: Callable[[str, bool], bool], *, count: Count, skip: int = 0
) -> Iterator[ArchiveRecord]:
    """Yield the records of a stream, each with its problem; damage between records is counted, once per stretch.

    One pass, whatever the lengths claim.

    Args:
        stream: at its start.
        max_block: larger blocks are not read.
        wanted: selects records whose block is kept, by their kind and whether it is an HTTP message.
        count: receives each damaged stretch.
        skip: number of records that the caller has yielded already.

    Raises:
        OSError: the compressed data is damaged.
    """
    window = _Window(stream)
    in_damage = False
    while True:
        position = window.position
        line = window.line()
        if not line:
            return
        if not line.strip(b" \t\r\n\0"):
            continue
        if _MARK.search(line) is None:
            if not in_damage and skip <= 0:
                count(ARCHIVE_DAMAGED, 1, f"offset {stream.offset_of(position)}: no WARC header where one should be")
            in_damage = True
            continue
        in_damage = False
        record = _read_record(window, stream.offset_of(position), max_block, wanted)
        skip -= 1
        if skip < 0:
            yield record


class _Window:
    """What is read of a stream but not yet taken, so that a length can be tried before it is believed."""

    def __init__(self, stream: PlainStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._at = 0
        self._base = 0

    @property
    def position(self) -> int:
        return self._base + self._at

    def fill(self, size: int) -> int:
        """Try to have `size` bytes in the window; return how many there are, at most `size`."""
        if self._at > _COMPACT_BYTES:
            del self._buffer[: self._at]
            self._base += self._at
            self._at = 0
        while len(self._buffer) - self._at < size:
            part = self._stream.read(READ_BYTES)
            if not part:
                return len(self._buffer) - self._at
            self._buffer += part
        return size

    def line(self) -> bytes:
        size = 256
        while True:
            here = self.fill(size)
            end = self._buffer.find(b"\n", self._at, self._at + here)
            if end >= 0 or here < size or here >= _MAX_LINE:
                return self.take(end + 1 - self._at if end >= 0 else here)
            size *= 4

    def take(self, size: int) -> bytes:
        found = bytes(self._buffer[self._at : self._at + size])
        self._at += len(found)
        return found

    def skip(self, size: int) -> int:
        """Pass over bytes; return how many there were."""
        left = size
        while left and (here := self.fill(min(left, READ_BYTES))):
            self._at += here
            left -= here
        return size - left

    def mark(self, start: int, end: int) -> int | None:
        """Return where between two places of the window the next record begins."""
        found = _MARK.search(self._buffer, self._at + start, self._at + end)
        return found.start() - self._at if found is not None else None

    def ends_record(self, length: int) -> bool:
        """Return whether a record of this length is followed by a separator, a record, or the end of the file."""
        after = bytes(self._buffer[self._at + length : self._at + length + _MARK_BYTES])
        rest = after.lstrip(b"\r\n")
        return not rest or rest.startswith((b"WARC/", b"\0")) or after.startswith((b"\r\n\r\n", b"\n\n"))


def _read_record(window: _Window, offset: int, max_block: int, wanted: Callable[[str, bool], bool]) -> ArchiveRecord:
    """Return the record whose first line was taken."""
    headers = _read_headers(window)
    kind = headers.get("warc-type", "").lower()
    digits = headers.get("content-length", "")
    length = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS else None
    size, problem, cut_short = _size(window, length, max_block)
    too_large = size > max_block
    if too_large:
        cut_short = window.skip(size) < size
        head = b""
    else:
        head = window.take(size)
    is_http = "application/http" in headers.get("content-type", "").lower() or head.startswith(b"HTTP/")
    return ArchiveRecord(
        offset,
        kind,
        headers.get("warc-target-uri", "").strip("<> "),
        headers.get("warc-date") or None,
        block=(head.rstrip(b"\r\n") if problem else head) if wanted(kind, is_http) else b"",
        is_http=is_http,
        too_large=too_large,
        cut_short=cut_short,
        problem=problem,
    )


def _read_headers(window: _Window) -> dict[str, str]:
    """Return the header fields by lower-case name, of several with one name the first; folded lines are joined."""
    headers: dict[str, str] = {}
    name = ""
    for _ in range(_MAX_LINES):
        line = window.line().rstrip(b"\r\n")
        if not line.strip():
            break
        text = line.decode("utf-8", "replace")
        if text[0] in " \t" and name:
            headers[name] += " " + text.strip()
            continue
        key, colon, value = text.partition(":")
        if colon and key.strip().lower() not in headers:
            name = key.strip().lower()
            headers[name] = value.strip()
    return headers


def _size(window: _Window, length: int | None, max_block: int) -> tuple[int, str, bool]:
    """Return the size of a record's block, what is wrong with the length given, and whether the file ends inside."""
    if length is not None and length <= max_block:
        here = window.fill(length + _MARK_BYTES)
        if here >= length and window.ends_record(length):
            return length, "", False
        mark = window.mark(0, min(here, length))
        if mark is not None:
            return mark, "its length is too large", True
        if here < length:
            return here, "", True
        here = window.fill(max_block)
        mark = window.mark(length, here)
        if mark is None and here >= max_block:
            return length, "", False
        return here if mark is None else mark, "its length is too small", False
    here = window.fill(max_block)
    mark = window.mark(0, here)
    if mark is None and length is not None:
        return length, "", False
    if length is None:
        return here if mark is None else mark, "it has no length", False
    return mark or 0, "its length is too large", True

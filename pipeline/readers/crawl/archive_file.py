"""Open crawl archives, local or remote, and resume reading after damage.

Readers of one format yield records and raise OSError where the bytes cannot be parsed; `recover` finds the next
position where a record can start and lets the reader resume there, so that damage costs only the damaged stretch.
"""

import contextlib
import io
import itertools
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import fsspec

from openwit.pipeline.common.counting import Count
from openwit.schemas.common.errors import DataError, NetworkError, RecipeError, one_line

ARCHIVE_DAMAGED = "archive_damaged"
"""Note: a stretch of an archive that could not be read. Not a drop reason: its number of records is unknown."""

GZIP_MAGIC = b"\x1f\x8b\x08"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
LZ4_MAGIC = b"\x04\x22\x4d\x18"
COMPRESSION_MAGICS = (GZIP_MAGIC, ZSTD_MAGIC, LZ4_MAGIC)

Source = str | os.PathLike[str] | BinaryIO

WARC_MARK = b"WARC/"

_HEADER_BYTES = 1 << 16
_HEAD_BYTES = 1 << 13
_URL_BYTES = 1_000
_ASCII = re.compile("[ -~]*")
_HEADER_END = re.compile(rb"\r*\n\r*\n")
_LENGTH = re.compile(rb"^Content-Length:\s*(\d{1,18})\s*$", re.IGNORECASE | re.MULTILINE)
_SCAN_BYTES = 1 << 16
_MEMBER_BYTES = 512
_MOST_RESTARTS = 10_000
"""Damaged stretches after which the rest of a file is left: each costs the reader a fresh start."""
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """One record of a WARC or ARC file.

    Attributes:
        offset: first byte of the record in the file (of its compressed member, if there is one).
        kind: WARC-Type, or `response` for ARC's captures.
        url: WARC-Target-URI, or empty.
        date: ISO 8601, or None.
        block: the whole HTTP message for responses; empty for records that were not requested.
        is_http: the block is an HTTP message.
        too_large: the block is larger than the reader's limit; `block` is empty.
        damaged: the header was read but not the data.
        cut_short: the data ends before the length in the header.
        problem: what is wrong with the record although it was read; it is counted as damage.
    """

    offset: int
    kind: str
    url: str
    date: str | None
    block: bytes = b""
    is_http: bool = False
    too_large: bool = False
    damaged: bool = False
    cut_short: bool = False
    problem: str = ""


@dataclass
class RecordRange:
    """The records of an archive that begin at byte `start` or after it, and before byte `end`.

    Damage belongs to the range of the last record before it.

    Attributes:
        exact: a record begins at `start`, which need not be searched.
        first: set while reading: offset of the first record that was read from `start` on.
        after: set while reading: offset of the first record at or after `end`; None if the file ended before.
    """

    start: int = 0
    end: int | None = None
    exact: bool = False
    first: int | None = None
    after: int | None = None

    def holds(self, file: BinaryIO, record: ArchiveRecord) -> bool:
        """Note that a record of a file was read; return whether it belongs to the range."""
        if self.first is None:
            self.first = record.offset
        # FastWARC gives further records of a gzip member the offset of the next member.
        if self.end is None or record.offset < self.end or not _begins_member(file, record):
            return True
        self.after = record.offset
        return False


def _begins_member(file: BinaryIO, record: ArchiveRecord) -> bool:
    """Return whether a record is the first of the gzip member at its offset."""
    position = file.tell()
    file.seek(record.offset)
    try:
        head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(file.read(_HEAD_BYTES), _HEAD_BYTES)
    except zlib.error:
        return False
    finally:
        file.seek(position)
    url = _ASCII.match(record.url[:_URL_BYTES])
    assert url is not None
    ending = b"" if url.end() < len(record.url) else rb"[\s>]"
    return record.kind.encode() in head.lower() and re.search(re.escape(url[0].encode()) + ending, head) is not None


def open_source(source: Source) -> tuple[BinaryIO, contextlib.ExitStack]:
    """Open a path or a URL that fsspec knows, or take an open binary file; return it seekable at its start.

    The caller closes the stack. A file object that was passed in stays open.

    Raises:
        DataError: it does not exist or cannot be opened.
        NetworkError: the URL cannot be opened.
        RecipeError: the URL's filesystem is not installed.
    """
    stack = contextlib.ExitStack()
    if not isinstance(source, str | os.PathLike):
        return _seekable(source, stack), stack
    name = os.fspath(source)
    try:
        if "://" in name:
            file = stack.enter_context(fsspec.open(name, "rb"))
        else:
            file = stack.enter_context(Path(name).open("rb"))  # noqa: SIM115 - the stack closes it
        return _seekable(file, stack), stack
    except FileNotFoundError:
        raise DataError(f"{name} does not exist") from None
    except ImportError as error:
        raise RecipeError(f"{name} needs a package that is not installed: {error}") from error
    except (OSError, ValueError) as error:
        kind = NetworkError if "://" in name else DataError
        raise kind(f"{name} cannot be opened: {error}") from error


class DamageCount:
    """Pass counts on, and keep the number of damaged stretches.

    Attributes:
        damage: damaged stretches so far.
        muted: damage is not passed on: another range of the file counts it.
    """

    def __init__(self, count: Count) -> None:
        self._count = count
        self.damage = 0
        self.muted = False

    def __call__(self, reason: str, n: int = 1, detail: str = "") -> None:
        """Count."""
        self.damage += n if reason == ARCHIVE_DAMAGED else 0
        if not (self.muted and reason == ARCHIVE_DAMAGED):
            self._count(reason, n, detail)


def recover(
    file: BinaryIO,
    read: Callable[[BinaryIO], Iterator[ArchiveRecord]],
    *,
    record_mark: bytes | None,
    count: "DamageCount",
    span: RecordRange | None = None,
) -> Iterator[ArchiveRecord]:
    """Read records past every damaged stretch; count each stretch once as `ARCHIVE_DAMAGED` with its offset.

    Args:
        file: seekable.
        read: yields the records from the file's position on; raises OSError where it cannot continue.
        record_mark: bytes with which a record starts, at the start of a line unless it is a compression magic;
            None if `read` recovers by itself.
        count: receives each damaged stretch; `read` counts with it too.
        span: the records that are wanted; a record begins at its start. Damage before the first record of a later
            range is not counted.
    """
    span = span or RecordRange()
    start: int | None = span.start
    in_damage = count.muted = span.start > 0
    marks = _Marks(file, record_mark)
    for restart in itertools.count():
        if start is None:
            return
        if restart > _MOST_RESTARTS:
            count(ARCHIVE_DAMAGED, 1, f"offset {start}: the rest, after {restart - 1:,} damaged stretches")
            return
        file.seek(start)
        last = start
        pending: ArchiveRecord | None = None
        problem, damage = "", count.damage
        try:
            for record in read(file):
                if not span.holds(file, record):
                    if pending is not None:
                        yield pending
                    return
                in_damage = count.muted = False
                if record.problem:
                    count(ARCHIVE_DAMAGED, 1, f"offset {record.offset}: {record.problem}")
                if pending is not None:
                    yield pending
                pending = record
                last = record.offset
                damage = count.damage
        except OSError as error:
            problem = one_line(error)
        if pending is not None:
            if pending.cut_short:
                problem = problem or "the file ends inside a record"
            # A length that is too large swallowed the records that follow.
            yield _without_swallowed(pending, record_mark) if problem else pending
        if not problem:
            cut = _cut_after(file, last, record_mark) if pending is not None and count.damage == damage else ""
            if cut:
                count(ARCHIVE_DAMAGED, 1, f"after the record at offset {last}: {cut}")
            return
        start = marks.after(last)
        if not in_damage:
            count(ARCHIVE_DAMAGED, 1, f"after the record at offset {last}: {problem}")
        in_damage = True


def _cut_after(file: BinaryIO, last: int, record_mark: bytes | None) -> str:
    """Return how a file ends too early after its last record, which readers take for its end; "" if it does not."""
    file.seek(last)
    head = file.read(_HEADER_BYTES)
    if record_mark == GZIP_MAGIC:
        file.seek(last)
        return _cut_member(file) if head.startswith(GZIP_MAGIC) else ""
    if record_mark != WARC_MARK:
        return ""
    size = file.seek(0, os.SEEK_END)
    end = _HEADER_END.search(head)
    if end is None:
        return "" if len(head) == _HEADER_BYTES else "the file ends inside the header of a record"
    length = _LENGTH.search(head, 0, end.end())
    if length is not None and last + end.end() + int(length.group(1)) > size:
        return "the file ends inside a record"
    return ""


def _cut_member(file: BinaryIO) -> str:
    """Read gzip members to the end of a file; return how the last is cut."""
    inflater, member = zlib.decompressobj(zlib.MAX_WBITS | 16), 0
    try:
        while data := file.read(_COPY_BYTES):
            while data:
                inflater.decompress(data, _COPY_BYTES)
                member += len(data)
                data = inflater.unconsumed_tail
                if inflater.eof:
                    data = inflater.unused_data
                    if not data.startswith(GZIP_MAGIC[: len(data)]):
                        return ""
                    inflater, member = zlib.decompressobj(zlib.MAX_WBITS | 16), 0
    except zlib.error as error:
        return f"a damaged gzip member: {error}"
    return "the file ends inside a gzip member" if member else ""


def _without_swallowed(record: ArchiveRecord, record_mark: bytes | None) -> ArchiveRecord:
    if record_mark is None:
        return record
    end = record.block.find(b"\r\n\r\nWARC/1.")
    return record if end < 0 else replace(record, block=record.block[:end], cut_short=True)


class _Marks:
    """Find where records can start; what was read once is not read again for the next mark."""

    def __init__(self, file: BinaryIO, mark: bytes | None) -> None:
        self._file = file
        self._mark = mark
        self._needle = mark if mark is None or mark in COMPRESSION_MAGICS else b"\n" + mark
        self._start = 0
        self._window = b""

    def after(self, position: int) -> int | None:
        """Return the first place after `position` where a record can start."""
        if self._mark is None or self._needle is None:
            return None
        at = position + 1
        while True:
            if not self._start <= at <= self._start + len(self._window) - len(self._needle):
                self._file.seek(at)
                self._start, self._window = at, self._file.read(_SCAN_BYTES)
                if len(self._window) < len(self._needle):
                    return None
            found = self._window.find(self._needle, at - self._start)
            if found < 0:
                at = self._start + len(self._window) - len(self._needle) + 1
                continue
            at = self._start + found
            if self._mark != GZIP_MAGIC or self._is_member(found):
                return at + len(self._needle) - len(self._mark)
            at += 1

    def _is_member(self, at: int) -> bool:
        """Return whether something can be inflated there: the three bytes occur within compressed data, too."""
        head = self._window[at : at + _MEMBER_BYTES]
        if len(head) < _MEMBER_BYTES and len(self._window) == _SCAN_BYTES:
            return True
        try:
            return bool(zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 1)) or len(head) < _MEMBER_BYTES
        except zlib.error:
            return False


def _seekable(file: BinaryIO, stack: contextlib.ExitStack) -> BinaryIO:
    if file.seekable():
        return file
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    while chunk := file.read(_COPY_BYTES):
        copy.write(chunk)
    copy.seek(0, io.SEEK_SET)
    return copy

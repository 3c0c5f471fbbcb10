"""Read ARC, the Internet Archive's format before WARC: one header line per record, then the HTTP message.

A header line is `URL IP-address date content-type length` (version 1) or has five more fields before the length
(version 2); http://archive.org/web/researcher/ArcFileFormat.php.
"""

import bisect
import io
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from openwit.pipeline.common.counting import Count
from openwit.pipeline.readers.crawl.archive_file import ARCHIVE_DAMAGED, GZIP_MAGIC, ArchiveRecord

ARC_START = b"filedesc:"

_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*:\S.*?) (\S+) (\d{8,20}) (.*) (\S+)")
_MAX_LINE = 16_384
_READ_BYTES = 65_536


def read_arc_records(file: BinaryIO, max_block: int, count: Count) -> Iterator[ArchiveRecord]:
    """Yield the captures of an ARC file from the file's position on, without its own `filedesc` record.

    Lines that are not a header where one is expected are skipped, and counted once per damaged stretch.

    Raises:
        OSError: the compressed data is damaged.
    """
    stream = _Stream(file)
    reader: io.BufferedReader = io.BufferedReader(stream, _READ_BYTES)
    in_damage = False
    while True:
        position = reader.tell()
        line = reader.readline(_MAX_LINE)
        if not line:
            return
        if not line.strip():
            continue
        header = _HEADER.fullmatch(line.rstrip(b"\r\n"))
        if header is None:
            if not in_damage:
                count(ARCHIVE_DAMAGED, 1, f"offset {stream.offset_of(position)}: no ARC header where one should be")
            in_damage = True
            continue
        in_damage = False
        url = header.group(1).decode("utf-8", "replace")
        record = _read_record(reader, header, url, stream.offset_of(position), max_block)
        if not url.startswith("filedesc:"):
            yield record


def _read_record(
    reader: io.BufferedReader, header: re.Match[bytes], url: str, offset: int, max_block: int
) -> ArchiveRecord:
    is_http = url.lower().startswith(("http://", "https://"))
    date = _iso_date(header.group(3).decode("ascii"))
    if not header.group(5).isdigit():
        return ArchiveRecord(offset, "response", url, date, is_http=is_http, damaged=True)
    length = int(header.group(5))
    wanted = is_http and length <= max_block
    block = bytearray()
    left = length
    while left > 0 and (part := reader.read(min(left, _READ_BYTES))):
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


class _Stream(io.RawIOBase):
    """Read the decompressed bytes of a file, perhaps of many gzip members, with the file offset of each member."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell()
        self._is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(self._start)
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._data = b""
        self._data_start = self._start  # file offset of self._data
        self._in_member = False
        self._produced = 0
        self._member_plain: list[int] = []
        self._member_file: list[int] = []

    def offset_of(self, position: int) -> int:
        """Return the file offset of a position in the decompressed bytes: that of its member, if compressed."""
        if not self._is_gzip:
            return self._start + position
        return self._member_file[bisect.bisect_right(self._member_plain, position) - 1]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._produced

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._inflate(len(buffer)) if self._is_gzip else self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._produced += len(data)
        return len(data)

    def _inflate(self, size: int) -> bytes:
        while True:
            if not self._data:
                self._data = self._file.read(_READ_BYTES)
                if not self._data:
                    return b""
            if not self._in_member:
                self._in_member = True
                self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
                self._member_plain.append(self._produced)
                self._member_file.append(self._data_start)
            try:
                plain = self._inflater.decompress(self._data, size)
            except zlib.error as error:
                raise OSError(f"damaged gzip member: {error}") from error
            rest = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            self._data_start += len(self._data) - len(rest)
            self._data = rest
            self._in_member = not self._inflater.eof
            if plain:
                return plain

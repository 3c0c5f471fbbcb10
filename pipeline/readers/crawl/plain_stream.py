"""Read the decompressed bytes of an archive, perhaps of many gzip members or of gzip in gzip, with offsets."""

import bisect
import io
import zlib
from typing import BinaryIO

from openwit.pipeline.readers.crawl.archive_file import GZIP_MAGIC

READ_BYTES = 65_536
_MOST_LAYERS = 4


class PlainStream(io.RawIOBase):
    """The decompressed bytes of a file from its position on; `rewind` makes it start there again.

    A file that is compressed twice, as some tools leave it, is read as if it were compressed once.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell()
        self.rewind()

    def rewind(self) -> None:
        """Start again."""
        self._file.seek(self._start)
        self.is_gzip = self._file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        self._file.seek(self._start)
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._data = b""
        self._data_start = self._start  # file offset of self._data
        self._in_member = False
        self._produced = 0
        self._member_plain: list[int] = []
        self._member_file: list[int] = []

    def offset_of(self, position: int) -> int:
        """Return the file offset of a position in the decompressed bytes: that of its member, if compressed."""
        if not self.is_gzip:
            return self._start + position
        at = bisect.bisect_right(self._member_plain, position) - 1
        return self._member_file[at] if at >= 0 else self._start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._produced

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._inflate(len(buffer)) if self.is_gzip else self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._produced += len(data)
        return len(data)

    def _inflate(self, size: int) -> bytes:
        while True:
            if not self._data:
                self._data = self._file.read(READ_BYTES)
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


class _Inner(io.RawIOBase):
    """The bytes of a stream as a file that can go back to its start only."""

    def __init__(self, stream: PlainStream) -> None:
        self._stream = stream
        self._reader = io.BufferedReader(stream, READ_BYTES)

    def tell(self) -> int:
        return 0

    def seek(self, _offset: int, _whence: int = io.SEEK_SET) -> int:
        self._reader.detach()
        self._stream.rewind()
        self._reader = io.BufferedReader(self._stream, READ_BYTES)
        return 0

    def read(self, size: int = -1) -> bytes:
        return self._reader.read(size)


def plain_stream(file: BinaryIO) -> PlainStream:
    """Return the stream of a file, all its layers of gzip undone."""
    stream = PlainStream(file)
    for _ in range(_MOST_LAYERS):
        if not stream.is_gzip:
            break
        try:
            doubled = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        except OSError:
            doubled = False
        stream.rewind()
        if not doubled:
            break
        stream = PlainStream(_Inner(stream))  # type: ignore[arg-type]
    return stream

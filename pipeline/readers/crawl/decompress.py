"""Decompress dumps of lines or pages chunk by chunk, up to the first damage."""

import bz2
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa

from openwit.pipeline.common.counting import Count
from openwit.pipeline.readers.crawl.archive_file import GZIP_MAGIC, ZSTD_MAGIC

DUMP_DAMAGED = "dump_damaged"
"""Note: a stretch of a dump that could not be read."""

READ_BYTES = 1 << 18
_BZIP2_MAGIC = b"BZh"
_ZSTD_BYTES = 1 << 16  # Arrow loses this much before the damage


def plain_chunks(file: BinaryIO, count: Count) -> Iterator[bytes]:
    """Yield the decompressed bytes of a gzip, bzip2, zstd or plain file, in chunks of about 1 MiB.

    The format is detected from magic bytes; concatenated members and streams are one text. Where the rest of the file
    cannot be read, `DUMP_DAMAGED` is counted and the last chunk is empty: the line before it may be cut off.

    Args:
        file: at its start, seekable.
    """
    head = file.read(len(ZSTD_MAGIC))
    file.seek(0)
    if head.startswith(GZIP_MAGIC):
        yield from _gzip_chunks(file, count)
    elif head.startswith(_BZIP2_MAGIC):
        yield from _bzip2_chunks(file, count)
    elif head == ZSTD_MAGIC:
        yield from _zstd_chunks(file, count)
    else:
        while chunk := file.read(READ_BYTES):
            yield chunk


def _gzip_chunks(file: BinaryIO, count: Count) -> Iterator[bytes]:
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    data = file.read(READ_BYTES)
    while data:
        try:
            chunk = inflater.decompress(data, 4 * READ_BYTES)
        except zlib.error as error:
            yield from _damage(count, f"before byte {file.tell()}: {error}")
            return
        if chunk:
            yield chunk
        data = inflater.unconsumed_tail
        if inflater.eof:
            data = inflater.unused_data.lstrip(b"\0") or file.read(READ_BYTES).lstrip(b"\0")  # tapes pad with zeros
            if data:
                inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        else:
            data = data or file.read(READ_BYTES)
    if not inflater.eof:
        yield from _damage(count, "the file ends inside a gzip member")


def _bzip2_chunks(file: BinaryIO, count: Count) -> Iterator[bytes]:
    decompressor = bz2.BZ2Decompressor()
    data = file.read(READ_BYTES)
    while data or not decompressor.needs_input:
        try:
            chunk = decompressor.decompress(data, 4 * READ_BYTES)
        except OSError as error:
            yield from _damage(count, f"before byte {file.tell()}: {error}")
            return
        if chunk:
            yield chunk
        if decompressor.eof:
            data = decompressor.unused_data or file.read(READ_BYTES)
            if not data:
                return
            decompressor = bz2.BZ2Decompressor()
        else:
            data = file.read(READ_BYTES) if decompressor.needs_input else b""
    yield from _damage(count, "the file ends inside a bzip2 stream")


def _zstd_chunks(file: BinaryIO, count: Count) -> Iterator[bytes]:
    stream = pa.CompressedInputStream(pa.PythonFile(_Unclosed(file), mode="r"), "zstd")
    while True:
        try:
            chunk = stream.read(_ZSTD_BYTES)
        except OSError as error:
            yield from _damage(count, f"before byte {file.tell()}: {error}")
            return
        if not chunk:
            return
        yield chunk


class _Unclosed:
    """Let Arrow read the caller's file without closing it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read

    def close(self) -> None:
        """Do nothing."""


def _damage(count: Count, detail: str) -> Iterator[bytes]:
    count(DUMP_DAMAGED, 1, detail)
    yield b""

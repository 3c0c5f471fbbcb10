"""Decompress streams recognised by their first bytes (gzip, bzip2, xz, Zstandard), up to the first damage."""

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from openwit.schemas.common.tar_members import DAMAGED, Note, Readable, ignore

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst")
MAGIC_BYTES = 6
AFTER_END = "there are other bytes after the end"
"""In the note on a stream whose data are whole."""

_MAGICS = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_BZIP2 = re.compile(rb"BZh[1-9](?:1A|\x17r|\Z)")  # the three letters alone may begin a text
_PACKED_AT_ONCE = 1 << 14
_PLAIN_AT_ONCE = 1 << 20


def compression_of(head: bytes) -> str | None:
    """Return the compression that a file's first bytes show; None for a plain file."""
    if _BZIP2.match(head):
        return "bzip2"
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), None)


def plain_chunks(stream: Readable, compression: str, note: Note = ignore) -> Iterator[bytes]:
    """Yield the bytes that a compressed stream holds, of all its concatenated parts, up to the first damage.

    Args:
        stream: the compressed bytes.
        compression: of `compression_of`.
        note: receives `DAMAGED` if the stream is cut or damaged.
    """
    read = _zstd if compression == "zstd" else _decompressed
    try:
        yield from read(stream, compression, note)
    except (OSError, zlib.error, lzma.LZMAError, EOFError) as error:
        note(DAMAGED, f"{compression}: {error}")


def _zstd(stream: Readable, compression: str, note: Note) -> Iterator[bytes]:
    import pyarrow as pa  # takes 70 ms, which lists in other formats do not need

    try:
        with pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd") as plain:
            while chunk := plain.read(1 << 16):
                yield chunk
    except pa.ArrowException as error:
        note(DAMAGED, f"{compression}: {error}")


def _decompressed(stream: Readable, compression: str, note: Note) -> Iterator[bytes]:
    make: Callable[[], Any] = {
        "gzip": lambda: zlib.decompressobj(31),
        "bzip2": bz2.BZ2Decompressor,
        "xz": lzma.LZMADecompressor,
    }[compression]
    decompressor = make()
    is_begun = is_ended = False
    while data := stream.read(_PACKED_AT_ONCE):
        while data:
            if is_ended and not is_begun and not compression_of(data):
                if data.strip(b"\0"):  # else it is padding after the last part
                    note(DAMAGED, f"{AFTER_END} of the {compression} stream")
                    return
                break
            is_begun = True
            before = decompressor.copy() if hasattr(decompressor, "copy") else None
            try:
                plain = decompressor.decompress(data, _PLAIN_AT_ONCE)
            except zlib.error:
                if before is not None:
                    yield from _before_damage(before, data)
                raise
            yield plain
            data = getattr(decompressor, "unconsumed_tail", b"")
            while not decompressor.eof and not getattr(decompressor, "needs_input", True):
                yield decompressor.decompress(b"", _PLAIN_AT_ONCE)
            if decompressor.eof:
                data = decompressor.unused_data
                decompressor, is_begun, is_ended = make(), False, True
    if is_begun:
        note(DAMAGED, f"the {compression} stream ends too early")


def _before_damage(decompressor: Any, data: bytes) -> Iterator[bytes]:
    """Yield what comes before a damaged byte, such as a checksum at the end, of bytes that fail as a whole."""
    try:
        for at in range(len(data)):
            yield decompressor.decompress(data[at : at + 1])
    except zlib.error:
        return


class Plain:
    """A compressed stream as a plain one, for reading forward.

    Args:
        chunks: of `plain_chunks`.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes; none at the end."""
        while not self._held:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._held = memoryview(chunk)
        size = len(self._held) if size < 0 else size
        taken, self._held = self._held[:size], self._held[size:]
        return bytes(taken)

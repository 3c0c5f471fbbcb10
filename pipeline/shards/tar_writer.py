"""Plain USTAR archives, written straight from memory (POSIX.1-1988, `ustar` interchange format).

Python's tarfile makes an object and a PAX check per member; a shard needs neither: names are short ASCII, sizes are
below 8 GiB, and every other field is constant. Constant fields also make equal samples equal bytes.
"""

from pathlib import Path
from typing import BinaryIO

_BLOCK = 512
_RECORD = 10_240
_MAX_NAME = 100
_MAX_SIZE = 8**11 - 1
# From mode to mtime: 0644, owner 0, group 0; the size is put in between.
_BEFORE_SIZE = b"0000644\0" + b"0000000\0" + b"0000000\0"
_MTIME = b"00000000000\0"
# typeflag "0", no link, magic and version, no user or group names, no device, no prefix.
_AFTER_CHECKSUM = b"0" + b"\0" * 100 + b"ustar\x00" + b"00" + b"\0" * (32 + 32 + 8 + 8 + 155)


def header(name: str, size: int) -> bytes:
    """The 512-byte header of a regular file.

    Raises:
        ValueError: the name is longer than 100 bytes or not ASCII, or the size does not fit.
    """
    raw = name.encode("ascii")
    if len(raw) > _MAX_NAME or not 0 <= size <= _MAX_SIZE:
        raise ValueError(f"{name!r} of {size} bytes does not fit a USTAR header")
    before = raw.ljust(_MAX_NAME, b"\0") + _BEFORE_SIZE + b"%011o\0" % size + _MTIME
    # The checksum is the sum of all bytes with its own field read as eight spaces.
    checksum = sum(before) + 8 * 0x20 + sum(_AFTER_CHECKSUM)
    return (before + b"%06o\0 " % checksum + _AFTER_CHECKSUM).ljust(_BLOCK, b"\0")


class TarWriter:
    """Writes members one after the other and says where their data begin."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0

    def add(self, name: str, data: bytes | memoryview) -> tuple[int, int]:
        """Writes a member; returns (offset of its first data byte, its size)."""
        size = len(data)
        self._file.write(header(name, size))
        self._file.write(data)
        padding = -size % _BLOCK
        if padding:
            self._file.write(b"\0" * padding)
        offset = self._position + _BLOCK
        self._position = offset + size + padding
        return offset, size

    def close(self) -> None:
        """Writes the end: two empty blocks, filled up to a record of 20 blocks as tar does."""
        end = 2 * _BLOCK
        self._file.write(b"\0" * (end + -(self._position + end) % _RECORD))


def open_tar(path: Path) -> BinaryIO:
    """A file for a TarWriter, with a buffer large enough that small members cost no system call each."""
    return path.open("wb", buffering=1 << 20)

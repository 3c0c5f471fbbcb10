"""Read small lists of the user, compressed or not, as a whole and within a limit; each problem is one sentence."""

from pathlib import Path
from typing import IO

from openwit.schemas.common.decompress import MAGIC_BYTES, compression_of, plain_chunks
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import refuse_special

MOST_BYTES = 512 << 20
"""A list that unpacks to more is none: a few kilobytes can stand for terabytes."""

LIST_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
"""Endings of the compressions that are read; the first bytes decide, not the name."""

_OTHERS = (".br", ".lz4", ".lzma", ".z", ".zip", ".7z", ".rar")
_OTHER_MAGICS = (b"\x04\x22\x4d\x18", b"7z\xbc\xaf", b"Rar!\x1a\x07", b"\x1f\x9d")


def read_list(path: Path, shown: str, *, once: bool = False) -> bytes:
    """Return the bytes of a list, unpacked if its first bytes are those of gzip, bzip2, xz or Zstandard.

    Args:
        path: the file.
        shown: the file in messages, with what it is: `blocklist: hosts.txt`.
        once: see `refuse_special`.

    Raises:
        DataError: it is missing, no file, cannot be read, is cut or damaged, is packed in another way, or unpacks to
            more than `MOST_BYTES`.
    """
    refuse_special(path, shown, once=once)
    try:
        with path.open("rb") as file:
            return _plain(file, path, shown)
    except FileNotFoundError:
        raise DataError(f"{shown} does not exist") from None
    except IsADirectoryError:
        raise DataError(f"{shown} is a folder: name its files") from None
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _plain(file: IO[bytes], path: Path, shown: str) -> bytes:
    head = file.read(MAGIC_BYTES)
    compression = compression_of(head)
    stream = _Joined(head, file)
    if compression is None:
        if path.suffix.lower() in _OTHERS or head.startswith(_OTHER_MAGICS):
            raise DataError(f"{shown} is packed in a way that is not read here: use gzip, bzip2, xz or Zstandard")
        return head + file.read()
    damage: list[str] = []
    plain = bytearray()
    for chunk in plain_chunks(stream, compression, lambda _, about: damage.append(about)):
        plain += chunk
        if len(plain) > MOST_BYTES:
            raise DataError(f"{shown} unpacks to more than {MOST_BYTES >> 20} MiB: that is no list")
    if damage:
        raise DataError(f"{shown} cannot be read: {' '.join(damage[0].split())}")
    return bytes(plain)


class _Joined:
    """A stream whose first bytes were read already; a pipe cannot be rewound."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes; none at the end."""
        if not self._head:
            return self._rest.read(size)
        taken = self._head if size < 0 else self._head[:size]
        self._head = self._head[len(taken) :]
        return taken + self._rest.read(size - len(taken) if size >= 0 else -1)

    def close(self) -> None:
        """Leave the file open: it is its owner's."""
        self.closed = True

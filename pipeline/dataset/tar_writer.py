"""Write plain USTAR archives straight from memory (POSIX.1-1988, `ustar` interchange format).

Python's tarfile creates an object and does a PAX check per member; a shard needs neither: names are short ASCII, sizes
are below 8 GiB, and every other field is constant. Constant fields also make equal samples equal bytes. The headers of
many members are built at once.
"""

from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np

BLOCK = 512
_RECORD = 10_240
_MAX_NAME = 100
_MAX_SIZE = 8**11 - 1
# Members are buffered up to this many bytes for one write call and one update of the checksum.
_FLUSH = 1 << 21
_ZEROS = bytes(BLOCK)
_DIGITS = 3 * np.arange(10, -1, -1, dtype=np.int64)
_SIZE = slice(124, 135)
_CHECKSUM = slice(148, 154)


def _template() -> np.ndarray:
    """Return a header without name, size and checksum: mode 0644, owner, group and time 0, a regular file."""
    raw = bytearray(BLOCK)
    raw[100:124] = b"0000644\0" + b"0000000\0" + b"0000000\0"
    raw[135:148] = b"\0" + b"00000000000\0"
    # The checksum is the sum of all bytes with its own field read as eight spaces.
    raw[148:156] = b" " * 8
    raw[156:157] = b"0"
    raw[257:265] = b"ustar\x00" + b"00"
    return np.frombuffer(bytes(raw), np.uint8)


_TEMPLATE = _template()


def headers(names: Sequence[str], sizes: np.ndarray) -> np.ndarray:
    """Build the headers of regular files: uint8 (N, 512).

    Args:
        names: of N members.
        sizes: int64 (N,), bytes.

    Raises:
        ValueError: a name is longer than 100 bytes or not ASCII, or a size does not fit.
    """
    if not len(names):
        return np.zeros((0, BLOCK), np.uint8)
    raw = [name.encode("ascii") for name in names]
    wrong = (sizes < 0) | (sizes > _MAX_SIZE)
    if max(map(len, raw)) > _MAX_NAME or wrong.any():
        at = int(wrong.argmax()) if wrong.any() else max(range(len(raw)), key=lambda n: len(raw[n]))
        raise ValueError(f"{names[at]!r} of {sizes[at]} bytes does not fit a USTAR header")
    made = np.tile(_TEMPLATE, (len(raw), 1))
    made[:, :_MAX_NAME] = np.array(raw, f"S{_MAX_NAME}").view(np.uint8).reshape(-1, _MAX_NAME)
    made[:, _SIZE] = _octal(sizes, _DIGITS)
    checksums = made.sum(axis=1, dtype=np.int64)
    made[:, _CHECKSUM] = _octal(checksums, _DIGITS[-6:])
    made[:, 154] = 0
    return made


def _octal(values: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    digits: np.ndarray = ((values[:, None] >> shifts) & 7) + ord("0")
    return digits


class Digest(Protocol):
    """A running checksum, such as hashlib's."""

    def update(self, data: bytes, /) -> None: ...


class TarWriter:
    """Write members one after the other and report where their data begin.

    Args:
        file: unbuffered.
        digest: updated with every byte that is written.

    Attributes:
        position: bytes written.
    """

    def __init__(self, file: BinaryIO, digest: Digest) -> None:
        self._file = file
        self._digest = digest
        self._waiting: list[bytes | memoryview] = []
        self._bytes_waiting = 0
        self.position = 0

    def add(self, names: Sequence[str], bodies: Sequence[bytes | memoryview]) -> tuple[np.ndarray, np.ndarray]:
        """Write members; return (offset of each one's first data byte, its size): int64 (N,) each."""
        sizes = np.fromiter(map(len, bodies), np.int64, len(bodies))
        raw = headers(names, sizes).tobytes()
        for n, body in enumerate(bodies):
            self._put(raw[n * BLOCK : (n + 1) * BLOCK], body, _ZEROS[: -len(body) % BLOCK])
        spans = BLOCK + sizes + (-sizes % BLOCK)
        ends = self.position + np.cumsum(spans)
        offsets = ends - spans + BLOCK
        self.position = int(ends[-1]) if len(ends) else self.position
        return offsets, sizes

    def copy(self, span: bytes | memoryview) -> None:
        """Write members as they are in another archive: headers, data and padding."""
        self._put(span)
        self.position += len(span)

    def close(self) -> None:
        """Write the end: two empty blocks, padded to a record of 20 blocks as tar does."""
        end = 2 * BLOCK
        self._put(b"\0" * (end + -(self.position + end) % _RECORD))
        self._flush()

    def _put(self, *parts: bytes | memoryview) -> None:
        self._waiting += parts
        self._bytes_waiting += sum(map(len, parts))
        if self._bytes_waiting >= _FLUSH:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._digest.update(data)
        left = memoryview(data)
        while left:  # an almost full disk takes a part, and refuses the rest
            left = left[self._file.write(left) :]
        self._waiting, self._bytes_waiting = [], 0


class Member(NamedTuple):
    """A member of an archive: where its header, its data and what follows it begin."""

    name: str
    header: int
    data: int
    size: int
    end: int


def members(archive: memoryview | bytes) -> Iterator[Member]:
    """Yield the members of an archive as `TarWriter` writes it.

    Raises:
        ValueError: a header is missing or damaged; the message has its offset.
    """
    position = 0
    while position + BLOCK <= len(archive):
        raw = bytes(archive[position : position + BLOCK])
        if raw == _ZEROS:
            return
        try:
            size = int(raw[_SIZE], 8)
            checksum = int(raw[_CHECKSUM], 8)
            name = raw[:_MAX_NAME].rstrip(b"\0").decode("ascii")
        except ValueError:
            raise ValueError(f"no member header at byte {position:,}") from None
        if checksum != sum(raw) - sum(raw[148:156]) + 8 * 0x20:
            raise ValueError(f"damaged member header at byte {position:,}")
        data = position + BLOCK
        end = data + size + -size % BLOCK
        if end > len(archive):
            raise ValueError(f"the archive ends inside member {name!r}")
        yield Member(name, position, data, size, end)
        position = end
    raise ValueError("the archive has no end")

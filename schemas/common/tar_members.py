"""Read the member headers of tars, from memory or from a stream: USTAR, GNU and PAX, with what damage leaves readable.

A header that is no header costs its own member only: reading continues at the next valid one. Members that cannot be
samples (links, sparse files, folders, metadata that a Mac adds) are left aside by name.
"""

import io
import posixpath
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

BLOCK = 512
DAMAGED = "damaged tar"
NO_END = "tar without an end mark"
LINK = "link"
SPARSE = "sparse file"

_MAX_EXTENSION = 1 << 20  # a longer name or PAX header is damage
_PLAIN = b"0\0"  # type flags of regular files
_LARGE = 1 << 30  # a size that is believed only with a right checksum
_ZEROS_AT_ONCE = 1 << 16

Note = Callable[[str, str], None]
"""Receives a reason, and what it is about in words."""


def ignore(reason: str, about: str) -> None:
    """Count nothing."""


class Member(NamedTuple):
    """A member of an archive: offset and size of its data; of a link the name of its target, and no data.

    `start` is where its first header begins: extended ones come before its own.
    """

    name: str
    offset: int
    size: int
    target: str = ""
    start: int = 0


class Archive(Protocol):
    """The bytes of a tar: a map of a file, or a `Forward` stream."""

    def __len__(self) -> int: ...
    def __getitem__(self, span: slice, /) -> bytes: ...


class Readable(Protocol):
    """Something that gives bytes from front to back."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        ...


class Forward:
    """A stream as an archive, read from front to back; its length is unknown, so a slice at the end is short."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._position = 0

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, span: slice, /) -> bytes:
        assert span.start >= self._position, "a stream is read forward only"
        while self._position < span.start:
            skipped = len(self._stream.read(min(1 << 20, span.start - self._position)))
            if not skipped:
                return b""
            self._position += skipped
        parts = []
        while self._position < span.stop:
            part = self._stream.read(min(1 << 20, span.stop - self._position))
            if not part:
                break
            parts.append(part)
            self._position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def members(archive: Archive, note: Note = ignore) -> Iterator[Member]:
    """Yield the regular files and the links of a tar, in order.

    Args:
        archive: its bytes. From a `Forward` stream a member's data must be read before the next member.
        note: receives `DAMAGED` for each stretch that is no tar, `NO_END`, and `SPARSE` for files stored with holes.
    """
    position, length = 0, len(archive)
    more: dict[str, str] = {}  # what extended headers say of the next member
    lost, tail = False, False
    begin = 0  # of the first header of the next member
    while position + BLOCK <= length:
        header = archive[position : position + BLOCK]
        if len(header) < BLOCK:  # the end of a stream
            tail = bool(header)
            break
        data = position + BLOCK
        raw = header[124:135]
        if raw.isdigit() and header[156] in _PLAIN and header[257:262] == b"ustar" and not (lost or more):
            try:
                own = int(raw, 8)
            except ValueError:
                own = _LARGE
            end = data + own
            if end <= length and own < _LARGE and header[0]:  # nearly every member
                name = _name(header)
                if not name.endswith("/"):
                    yield Member(clean_name(name) if "/" in name else name, data, own, "", position)
                position = end + -own % BLOCK
                continue
        found = _size(header)
        if header[0] == 0 and not lost:
            # Zero blocks end a tar; another one may follow, as `cat a.tar b.tar` leaves it.
            following = _after_zeros(archive, position, length)
            if following is None or not _is_checked(following[1]):
                return
            position, header = following
            found, data = _size(header), position + BLOCK
        if found is None or not ((_is_ustar(header) and not lost) or _is_checked(header)):
            if not lost:
                note(DAMAGED, f"no member header at byte {position:,}")
            lost, more = True, {}
            position += BLOCK
            continue
        lost = False
        kind = header[156:157]
        begin = begin if more else position
        held = found if kind in b"xXgLK" else _int(more.get("size"), found)
        is_extended = kind in b"xXgLK" and held > _MAX_EXTENSION
        if is_extended or ((data + held > length or held > _LARGE) and not _is_checked(header)):
            note(DAMAGED, f"no member header at byte {position:,}")  # a size that damage made
            lost, more = True, {}
            position += BLOCK
            continue
        if data + held > length:
            note(DAMAGED, f"it ends inside the member at byte {position:,}")
            return
        if kind in b"xX":
            more.update(_pax(archive[data : data + held]))
        elif kind in b"LK":
            more["path" if kind == b"L" else "linkpath"] = _text(archive[data : data + held].split(b"\0", 1)[0])
        elif kind != b"g":
            if kind == b"S":
                data = _after_sparse_map(archive, data, header)
            member = _member(header, kind, more, data, held)
            if member is not None:
                yield member._replace(start=begin)
            elif _is_sparse(kind, more):
                note(SPARSE, _name(header))
            more = {}
        position = data + held + -held % BLOCK
    if lost:
        return
    if tail or 0 < length - position < BLOCK:
        note(DAMAGED, f"it ends inside the header at byte {position:,}")
    elif position:
        note(NO_END, f"it ends at byte {position:,}")


def _member(header: bytes, kind: bytes, more: dict[str, str], data: int, held: int) -> Member | None:
    name = more.get("path") or _name(header)
    if kind in (b"1", b"2"):
        target = more.get("linkpath") or _text(header[157:257].split(b"\0", 1)[0])
        if kind == b"2":
            target = posixpath.join(posixpath.dirname(name), target)
        return Member(clean_name(name), data, 0, clean_name(target))
    if kind not in (b"0", b"\0", b"7") or name.endswith("/") or _is_sparse(kind, more):
        return None
    return Member(clean_name(name), data, held)


def _is_sparse(kind: bytes, more: dict[str, str]) -> bool:
    return kind == b"S" or any(key.startswith("GNU.sparse.") for key in more)


def clean_name(name: str) -> str:
    """Return a member's path without `./` and doubled slashes, as links and members name it alike."""
    if name.startswith(("./", "/")) or "//" in name or "/." in name:
        return posixpath.normpath(name).lstrip("/")
    return name


def is_metadata(name: str) -> bool:
    """Return whether a path is what systems put beside files: AppleDouble (`._x`), hidden files, PAX headers."""
    last = name[name.rfind("/") + 1 :]
    return last.startswith(".") or "__MACOSX/" in name or "PaxHeader" in name


def _after_zeros(archive: Archive, position: int, length: int) -> tuple[int, bytes] | None:
    """Return the first block that is not of zeros only, if one follows."""
    if isinstance(archive, Forward):
        position += BLOCK  # read already
        while len(header := archive[position : position + BLOCK]) == BLOCK:
            if header.strip(b"\0"):
                return position, header
            position += BLOCK
        return None
    while position + BLOCK <= length:
        zeros = archive[position : position + _ZEROS_AT_ONCE]
        left = len(zeros.lstrip(b"\0"))
        if left:
            position += (len(zeros) - left) // BLOCK * BLOCK
            return position, archive[position : position + BLOCK]
        position += len(zeros)
    return None


def _after_sparse_map(archive: Archive, data: int, header: bytes) -> int:
    """Return where the data of a sparse file begin: after the blocks that continue its map (GNU)."""
    extended = header[482]
    while extended:
        block = archive[data : data + BLOCK]
        extended = block[504] if len(block) == BLOCK else 0
        data += BLOCK
    return data


def _size(header: bytes) -> int | None:
    raw = header[124:136]
    if raw[0] & 0x80:
        return int.from_bytes(raw[1:], "big") if raw[0] == 0x80 else None
    digits = raw.strip(b" \0")
    try:
        return int(digits, 8) if digits.isdigit() else None if digits else 0
    except ValueError:
        return None


def header_size(header: bytes) -> int | None:
    """Return the size of the data after a member's own header; None if it says none."""
    return _size(header)


def is_header(block: bytes) -> bool:
    """Return whether a block is a member's header, by its checksum."""
    return _is_checked(block)


def _is_ustar(header: bytes) -> bool:
    return header[257:262] == b"ustar"


def _is_checked(header: bytes) -> bool:
    """Return whether a header has the checksum that it says."""
    digits = header[148:156].strip(b" \0")
    if len(header) < BLOCK or not digits.isdigit() or digits.strip(b"01234567"):
        return False
    return int(digits, 8) == sum(header) - sum(header[148:156]) + 8 * 32


def _name(header: bytes) -> str:
    name = header[: header.find(b"\0", 0, 100) if header[99] == 0 else 100]
    if header[345] and header[257:263] == b"ustar\0":
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return _text(name)


def _text(raw: bytes) -> str:
    """Decode a name; one that is no UTF-8 byte by byte, so that different names stay different."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _int(digits: str | None, otherwise: int) -> int:
    if digits is None or not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        return otherwise
    return int(digits)


def _pax(raw: bytes) -> dict[str, str]:
    """Parse the records of a PAX header: `LENGTH KEY=VALUE` and a line feed (POSIX.1-2001)."""
    records: dict[str, str] = {}
    stream = io.BytesIO(raw)
    while True:
        begin = stream.tell()
        length, _, _ = raw[begin : begin + 20].partition(b" ")
        if not length.isdigit() or int(length) <= len(length):
            return records
        record = stream.read(int(length))
        key, _, value = record[len(length) + 1 :].removesuffix(b"\n").partition(b"=")
        records[_text(key)] = _text(value).rstrip("\0")

"""Read samples of tars as webdataset writes and groups them: members that follow each other and share a key.

Images are not read here, only their first bytes. A large tar is read in parts: a part that begins at byte `start` has
the samples that begin after the first member at or after `start`, up to the sample of the first member at or after
`end`. Which member that is, is found by search, and confirmed when the part before has been read (`first_wrong`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import xxhash

from openwit.pipeline.common.counting import Count
from openwit.pipeline.common.ranges import open_ranges
from openwit.pipeline.readers.crawl.archive_file import RecordRange
from openwit.pipeline.readers.samples.sample import (
    DAMAGED_TAR,
    FURTHER_IMAGE,
    HEAD_BYTES,
    IMAGE_ENDINGS,
    IMAGE_TOO_LARGE,
    MAX_IMAGE_BYTES,
    MAX_JSON_BYTES,
    MAX_TEXT_BYTES,
    NO_IMAGE,
    OTHER_FILE,
    SAME_KEY,
    SAME_MEMBER,
    TEXT_ENDINGS,
    TOO_LONG,
    FactsReader,
    Sample,
)
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.schemas.common.decompress import MAGIC_BYTES, compression_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage.remote import is_remote
from openwit.schemas.common.tar_members import BLOCK, NO_END, Member, header_size, is_header, is_metadata, members
from openwit.schemas.images.sniff import sniff_format

UNPACK = "images are read from tars by byte ranges, so unpack it to a .tar first"
_SEARCH_BYTES = 1 << 16
_FAR = 1 << 20


class _View:
    """The bytes of an open file from `start` on, as `members` takes them."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._start = start
        self._size = max(0, end - start)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice) -> bytes:
        self._file.seek(self._start + span.start)
        return self._file.read(span.stop - span.start)


@dataclass(slots=True)
class _Group:
    """Members of one key: (ending, member) each."""

    key: str
    start: int
    parts: list[tuple[str, Member]] = field(default_factory=list)


def is_tar_name(name: str) -> bool:
    """Return whether a file is a tar by its name."""
    return name.partition("?")[0].lower().endswith(".tar")


def key_of(name: str) -> tuple[str, str] | None:
    """Return (key, ending in lower case) of a member as webdataset splits its name; None if it has no ending."""
    folder, slash, last = name.rpartition("/")
    base, dot, ending = last.partition(".")
    return (folder + slash + base, ending.lower()) if base and dot else None


def tar_samples(
    file: BinaryIO, name: str, columns: TableColumns, count: Count, *, span: RecordRange | None = None
) -> Iterator[Sample]:
    """Yield the samples of a tar that have an image, in order; their place is the offset of the image's bytes.

    Args:
        file: the tar, seekable.
        name: it in the recipe, for notes.
        columns: names of the fields of JSON given by the user.
        count: receives `SAMPLE_REASONS` and `SAMPLE_NOTES`.
        span: members that are read; `first` and `after` are set.

    Raises:
        DataError: it is no tar.
    """
    facts = FactsReader(columns, count)
    seen: set[int] = set()
    for group in _groups(file, name, count, span or RecordRange()):
        digest = xxhash.xxh3_64_intdigest(group.key.encode("utf-8", "replace"))
        if digest in seen:
            count(SAME_KEY, 0, f"{name}: {group.key}")
        seen.add(digest)
        sample = _sample(file, name, group, facts, count)
        if sample is not None:
            yield sample


def _groups(file: BinaryIO, name: str, count: Count, span: RecordRange) -> Iterator[_Group]:
    """Yield the groups of a span of members."""
    size = file.seek(0, 2)
    start: int | None = span.start
    if span.start and not span.exact:
        start = next_member(file, span.start, size)
    elif not span.start:
        _check(file, name, size)
    if start is None:
        return
    from_byte = f", counted from byte {start:,}" if start else ""

    def note(reason: str, about: str) -> None:
        if reason != NO_END:  # many writers leave it out
            count(DAMAGED_TAR, 0, f"{name}: {reason}: {about}{from_byte}")

    skipped: str | None = None
    group: _Group | None = None
    for member in members(_View(file, start, size), note):
        begin = start + member.start
        named = key_of(member.name)
        key = member.name if named is None else named[0]
        if span.first is None:
            span.first = begin
            skipped = key if span.start else None
        if span.end is not None and span.after is None and begin >= span.end:
            span.after = begin
        if span.start and span.first == span.after:
            return  # no member begins in the span
        if skipped is not None:
            if key == skipped:
                continue
            skipped = None
        if group is None or key != group.key:
            if group is not None and group.parts:
                yield group
            if span.after is not None and begin > span.after:
                return
            group = _Group(key, begin)
        if member.target or is_metadata(member.name):
            continue
        if named is None:
            count(OTHER_FILE, 0, f"{name}: {member.name}")
            continue
        if any(ending == named[1] for ending, _ in group.parts):
            count(SAME_MEMBER, 0, f"{name}: {member.name}")
            continue
        group.parts.append((named[1], member._replace(offset=start + member.offset)))
    if group is not None and group.parts:
        yield group


def _check(file: BinaryIO, name: str, size: int) -> None:
    """Refuse a file that is no tar."""
    file.seek(0)
    head = file.read(BLOCK)
    if is_header(head) or not head.strip(b"\0"):
        return  # or an empty tar
    if compression_of(head[:MAGIC_BYTES]) is not None:
        raise DataError(f"{name} is compressed: {UNPACK}")
    if next_member(file, 0, size) is None:
        raise DataError(f"{name} is not a tar: it holds no member's header")


def next_member(file: BinaryIO, position: int, size: int) -> int | None:
    """Return the first offset at or after `position` where a member's header is, by its checksum."""
    at = position + -position % BLOCK
    while at + BLOCK <= size:
        file.seek(at)
        window = file.read(_SEARCH_BYTES)
        for offset in range(0, len(window) - BLOCK + 1, BLOCK):
            # A checksum in the right place is rare; nearly every block is refused by its first bytes.
            if window[offset + 257 : offset + 262] == b"ustar" and is_header(window[offset : offset + BLOCK]):
                return at + offset
        at += _SEARCH_BYTES
    return None


def _sample(file: BinaryIO, name: str, group: _Group, facts: FactsReader, count: Count) -> Sample | None:
    where = f"{name}: {group.key}"
    text = json = image = None
    others: list[tuple[str, Member]] = []
    for ending, member in group.parts:
        last = ending.rpartition(".")[2]
        if last in TEXT_ENDINGS:
            text = text or member
        elif last == "json":
            json = json or member
        else:
            others.append((last, member))
    for last, member in sorted(others, key=lambda part: part[0] not in IMAGE_ENDINGS):
        is_named = last in IMAGE_ENDINGS
        if image is None and sniff_format(_bytes(file, member, HEAD_BYTES)) is not None:
            image = member
        elif is_named and image is not None:
            count(FURTHER_IMAGE, 0, f"{name}: {member.name}")
    if image is None:  # a name that lies: fetch says what it is
        image = next((member for last, member in others if last in IMAGE_ENDINGS), None)
    if image is None:
        count(NO_IMAGE, 1, f"{where} (it has: {', '.join(sorted(ending for ending, _ in group.parts))[:100]})")
        return None
    if image.size > MAX_IMAGE_BYTES:
        count(IMAGE_TOO_LARGE, 1, f"{name}: {image.name}, {image.size:,} bytes")
        return None
    sample = Sample(image.offset, group.key)
    facts.complete(
        sample, _small(file, text, MAX_TEXT_BYTES, name, count), _small(file, json, MAX_JSON_BYTES, name, count), where
    )
    return sample


def _small(file: BinaryIO, member: Member | None, most: int, name: str, count: Count) -> bytes | None:
    if member is None:
        return None
    if member.size > most:
        count(TOO_LONG, 0, f"{name}: {member.name}, {member.size:,} bytes")
        return None
    return _bytes(file, member, member.size)


def _bytes(file: BinaryIO, member: Member, most: int) -> bytes:
    file.seek(member.offset)
    return file.read(min(member.size, most))


def tar_images(name: str, offsets: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, image bytes) of members of a tar by the offsets of their bytes, ascending, in one pass.

    Of a tar in a store only the blocks around these members are fetched.

    Raises:
        DataError: there is no such member: the tar has changed.
        NetworkError: the store cannot be read.
    """
    wanted = sorted(set(offsets))
    if not wanted:
        return
    sparse = is_remote(name) and (wanted[-1] - wanted[0]) // len(wanted) > _FAR
    with open_ranges(name, block_bytes=_FAR >> 2) if sparse else open_ranges(name) as file:
        for offset in wanted:
            file.seek(max(0, offset - BLOCK))
            header = file.read(BLOCK)
            size = header_size(header) if offset >= BLOCK and is_header(header) else None
            body = b"" if size is None or size > MAX_IMAGE_BYTES else file.read(size)
            if size is None or len(body) < size:
                raise DataError(
                    f"{name} holds no member at byte {offset:,}: it changed since its candidates were read, read them "
                    "again"
                )
            yield offset, body

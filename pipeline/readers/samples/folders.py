"""Read samples of folders: images, and .txt, .caption or .json of the same name beside them."""

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from openwit.pipeline.common.counting import Count
from openwit.pipeline.readers.samples.sample import (
    HEAD_BYTES,
    IMAGE_ENDINGS,
    IMAGE_TOO_LARGE,
    LINK_OUTSIDE,
    MAX_IMAGE_BYTES,
    MAX_JSON_BYTES,
    MAX_TEXT_BYTES,
    OTHER_FILE,
    TEXT_ENDINGS,
    TOO_LONG,
    UNREADABLE_TEXT,
    FactsReader,
    Sample,
)
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.table_ranges import RowRange
from openwit.schemas.common.errors import DataError, one_line
from openwit.schemas.common.matching_paths import shown_name, special_kind
from openwit.schemas.images.sniff import sniff_format

NAME_BITS = 20
"""Bits of a name's hash at the end of each place in a folder."""
_PART_IMAGES = 20_000


@dataclass(frozen=True)
class Listing:
    """The files of a folder, without those of folders in it.

    Attributes:
        images: names in order.
        beside: names of texts and JSON.
        others: names of other files.
        outside: names of links that leave the folder.
    """

    images: list[str]
    beside: set[str]
    others: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


def is_image_name(name: str) -> bool:
    """Return whether a file is an image by its name."""
    return name.rpartition(".")[2].lower() in IMAGE_ENDINGS


def stored_place(position: int, name: str) -> int:
    """Return where an image of a folder is: its position in order of names, and 20 bits of its name's hash."""
    return position << NAME_BITS | xxhash.xxh3_64_intdigest(os.fsencode(name)) & ((1 << NAME_BITS) - 1)


def folder_ranges(folder: str) -> list[RowRange]:
    """Divide the images of a folder into ranges of positions."""
    images = len(listing_of(folder).images)
    parts = max(1, -(-images // _PART_IMAGES))
    return [RowRange(images * n // parts, images * (n + 1) // parts) for n in range(parts)]


def listing_of(folder: str) -> Listing:
    """List a folder; a file that its name does not tell is an image if its first bytes are those of one.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        stamp = os.stat(folder).st_mtime_ns
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {one_line(error)}") from error
    return _listing(folder, stamp)


@functools.lru_cache(4)
def _listing(folder: str, stamp: int) -> Listing:  # noqa: ARG001
    images, beside, others, outside = [], set(), [], []
    root = os.path.realpath(folder)
    try:
        with os.scandir(folder) as entries:
            files = [entry for entry in entries if not entry.name.startswith((".", "_")) and not entry.is_dir()]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {one_line(error)}") from error
    for entry in sorted(files, key=lambda entry: entry.name):
        ending = entry.name.rpartition(".")[2].lower()
        if special_kind(entry.path) is not None or not os.path.exists(entry.path):
            others.append(entry.name)
        elif entry.is_symlink() and os.path.commonpath([root, os.path.realpath(entry.path)]) != root:
            outside.append(entry.name)
        elif ending in (*TEXT_ENDINGS, "json"):
            beside.add(entry.name)
        elif ending in IMAGE_ENDINGS or _is_image(entry.path):
            images.append(entry.name)
        else:
            others.append(entry.name)
    return Listing(images, beside, others, outside)


def _is_image(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return sniff_format(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False


def folder_samples(folder: str, columns: TableColumns, count: Count, part: RowRange | None = None) -> Iterator[Sample]:
    """Yield the images of a folder with what lies beside them, in order of their names.

    Args:
        folder: its path with a slash at the end.
        columns: names of the fields of JSON given by the user.
        count: receives `SAMPLE_REASONS` and `SAMPLE_NOTES`.
        part: positions to read; None reads all.

    Raises:
        DataError: the folder cannot be listed.
    """
    listing = listing_of(folder)
    part = part or RowRange(0, len(listing.images))
    if part.first == 0:
        for name in listing.outside:
            if is_image_name(name):
                count(LINK_OUTSIDE, 1, f"{folder}{name}")
        for name in listing.others:
            count(OTHER_FILE, 0, f"{folder}{name}")
    facts = FactsReader(columns, count)
    for position in range(part.first, part.end):
        name = listing.images[position]
        size = _size(Path(folder, name))
        if size is not None and size > MAX_IMAGE_BYTES:
            count(IMAGE_TOO_LARGE, 1, f"{folder}{name}, {size:,} bytes")
            continue
        stem = name.rpartition(".")[0] or name
        sample = Sample(stored_place(position, name), shown_name(stem))
        text = next((f"{stem}.{ending}" for ending in TEXT_ENDINGS if f"{stem}.{ending}" in listing.beside), None)
        json = f"{stem}.json" if f"{stem}.json" in listing.beside else None
        facts.complete(
            sample,
            _small(folder, text, MAX_TEXT_BYTES, count),
            _small(folder, json, MAX_JSON_BYTES, count),
            f"{folder}{name}",
        )
        yield sample


def name_at(folder: str, place: int) -> str:
    """Return the name of the image at a place.

    Raises:
        DataError: there is another one now.
    """
    images = listing_of(folder).images
    position = place >> NAME_BITS
    if not 0 <= position < len(images) or stored_place(position, images[position]) != place:
        raise DataError(f"folder {folder} has changed since its candidates were read: read them again")
    return images[position]


def folder_images(folder: str, places: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield (place, image bytes) of images of a folder; empty bytes for one that cannot be read.

    Raises:
        DataError: the folder has changed.
    """
    for place in sorted(set(places)):
        path = Path(folder, name_at(folder, place))
        try:
            yield place, path.read_bytes()
        except OSError:
            yield place, b""


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _small(folder: str, name: str | None, most: int, count: Count) -> bytes | None:
    if name is None:
        return None
    try:
        with open(Path(folder, name), "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        count(UNREADABLE_TEXT, 0, f"{folder}{name}: {one_line(error)}")
        return None
    if len(data) > most:
        count(TOO_LONG, 0, f"{folder}{name}, more than {most:,} bytes")
        return None
    return data

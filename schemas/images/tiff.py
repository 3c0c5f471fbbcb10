"""Give TIFF files a new directory that holds only what a decoder needs."""

import struct
from typing import NamedTuple

from openwit.schemas.images.faults import MAX_PROFILE_BYTES, ImageFault, ImageFileError
from openwit.schemas.images.picture import Picture

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_ORIENTATION, _ICC_PROFILE = 0x0112, 34675
_PIECES = frozenset({273, 279, 324, 325})
_MAX_PIECES = 65_536
_COLOUR_MAP, _LARGEST_MAP = 320, 3 << 16
# Size, sample layout, compression and its options, colours, strips, tiles, predictor, inks, JPEG tables, YCbCr.
_NEEDED = frozenset(
    {256, 257, 258, 259, 262, 266, 277, 278, 284, 292, 293, 317, 322, 323, 332, 334, 338, 339, 347, 512, 513, 514, 515}
    | {519, 520, 521, 529, 530, 531, 532, 50674, _ORIENTATION, _COLOUR_MAP}
    | _PIECES
)
_LARGEST_VALUE = 1 << 16


class _Layout(NamedTuple):
    """How a directory is written: classic TIFF, or BigTIFF with numbers of 64 bits."""

    order: str
    big: bool

    @property
    def entry(self) -> struct.Struct:
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))

    @property
    def offset(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "I"))

    @property
    def entries(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "H"))


def tiff_picture(body: bytes) -> Picture:
    """Keep the first picture's pixels where they are, and describe them by a directory of the tags that are needed.

    Other tags may claim any number of values anywhere in the file, which Pillow reads all. An orientation that does
    not exist is left out.

    Raises:
        ImageFileError: there is no directory, or it has more strips or tiles than any program writes.
    """
    layout = _Layout("<" if body.startswith(b"II") else ">", body[2:4] in (b"+\0", b"\0+"))
    pointer = 8 if layout.big else 4
    directory = layout.offset.unpack_from(body.ljust(16, b"\0"), pointer)[0]
    if not 8 <= directory <= len(body) - layout.entries.size:
        raise ImageFileError(ImageFault.TRUNCATED, "no directory")
    count = layout.entries.unpack_from(body, directory)[0]
    kept: dict[int, bytes] = {}
    profile: bytes | None = None
    first = directory + layout.entries.size
    last = min(first + min(count, 0xFFFF) * layout.entry.size, len(body) - layout.entry.size + 1)
    for at in range(first, last, layout.entry.size):
        tag, kind, number, value = layout.entry.unpack_from(body, at)
        size = number * _TYPE_BYTES.get(kind, 0)
        inline = size <= layout.offset.size
        start = at + layout.entry.size - layout.offset.size if inline else layout.offset.unpack(value)[0]
        if size == 0 or start + size > len(body):
            continue
        if tag in _PIECES and number > _MAX_PIECES:
            raise ImageFileError(ImageFault.TOO_MANY_PARTS, f"{number:,} strips or tiles")
        if tag == _ICC_PROFILE and size <= MAX_PROFILE_BYTES:
            profile = body[start : start + size]
        elif tag in _NEEDED and tag not in kept and _plausible(tag, kind, number, size, value, layout):
            kept[tag] = body[at : at + layout.entry.size]
    # Directories begin at even offsets.
    padding = bytes(-len(body) % 2)
    where = layout.offset.pack(len(body) + len(padding))
    entries = (entry for _, entry in sorted(kept.items()))
    new = b"".join((layout.entries.pack(len(kept)), *entries, bytes(layout.offset.size)))
    whole = b"".join((body[:pointer], where, body[pointer + len(where) :], padding, new))
    return Picture(whole, 1, profile)


def _plausible(tag: int, kind: int, number: int, size: int, value: bytes, layout: _Layout) -> bool:
    if tag in _PIECES:
        return True
    if tag == _COLOUR_MAP:
        return number <= _LARGEST_MAP
    if tag == _ORIENTATION:
        short = struct.unpack_from(layout.order + "H", value)[0]
        return kind == 3 and number == 1 and 1 <= short <= 8
    return size <= _LARGEST_VALUE

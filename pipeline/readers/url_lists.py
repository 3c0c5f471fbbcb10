"""Read lists of image URLs: text files with one URL per line; blank lines and lines that begin with # are left out.

Common Crawl's lists of paths are told apart by their name (`warc.paths`, `warc.paths.gz`): see `inputs`.
"""

import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from openwit.pipeline.common.counting import Count
from openwit.pipeline.common.ranges import open_ranges
from openwit.pipeline.readers.tables.files import opened_text
from openwit.schemas.common.charset.unicode import wide_codec
from openwit.schemas.common.decompress import MAGIC_BYTES, compression_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.text_files import decode_text

_LONGEST_LINE = 1 << 16
_HEAD_BYTES = 1 << 16
_ARCHIVE = re.compile(rb"\.(warc|wat|wet|arc)(\.(wat|wet))?(\.gz)?$")


def is_plain(name: str) -> bool:
    """Return whether a list is neither compressed nor in UTF-16, so that it can be read in parts."""
    with open_ranges(name) as file:
        head = file.read(_HEAD_BYTES)
    return compression_of(head[:MAGIC_BYTES]) is None and wide_codec(head)[0] is None


def listed_urls(
    source: str | BinaryIO, name: str, count: Count, span: tuple[int, int | None] | None = None
) -> Iterator[tuple[int, str]]:
    """Yield (place, URL) of a list: the byte at which its line begins in the unpacked file.

    Args:
        source: the path where to read; the open file for a part of it.
        name: the list as the recipe names it.
        count: receives what damage takes away.
        span: bytes (start, end) in which the lines begin; None reads all.

    Raises:
        DataError: it cannot be read, or is a list of archives.
    """
    if not isinstance(source, str):
        yield from _lines(source, name, span or (0, None))
        return
    with open_ranges(source) as file:
        head = file.read(_HEAD_BYTES)
        if compression_of(head[:MAGIC_BYTES]) is None:
            codec, mark = wide_codec(head)
            file.seek(0)
            lines = file if codec is None else io.BytesIO(file.read()[mark:].decode(codec, "replace").encode())
            yield from _lines(lines, name, (0, None))
            return
    with opened_text(source, None, count) as unpacked:
        yield from _lines(unpacked, name, (0, None))


def _lines(file: Any, name: str, span: tuple[int, int | None]) -> Iterator[tuple[int, str]]:
    start, end = span
    at = start
    if start:
        # The line that holds the byte before belongs to the part before.
        file.seek(start - 1)
        at += _line(file)[1] - 1
    is_first = start == 0
    while end is None or at < end:
        raw, length = _line(file)
        if not length:
            return
        line = raw.removeprefix(b"\xef\xbb\xbf").strip() if at == 0 else raw.strip()
        if line and not line.startswith(b"#"):
            if is_first and _ARCHIVE.search(line):
                raise DataError(
                    f"{name} is a list of archives, not of images: give it a name that ends in .paths, as Common "
                    "Crawl does"
                )
            is_first = False
            yield at, decode_text(line).text
        at += length


def _line(file: Any) -> tuple[bytes, int]:
    """Return a line and its length; of one that is longer than any URL the beginning is enough."""
    raw: bytes = file.readline(_LONGEST_LINE)
    length, last = len(raw), raw
    while len(last) == _LONGEST_LINE and not last.endswith(b"\n"):
        last = file.readline(_LONGEST_LINE)
        length += len(last)
    return raw, length

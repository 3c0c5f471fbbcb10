"""Decode text inputs: tables, lists of queries, URLs, prompts and classes, whatever charset they were saved in.

A byte order mark decides, then NUL bytes (UTF-16 or UTF-32 without a mark), then validity as UTF-8, then detection.
What was taken without a declaration is in the result, so that callers say it, and so is the number of characters that
could not be decoded.
"""

import codecs
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openwit.schemas.common.charset import detect_or_western
from openwit.schemas.common.charset.unicode import wide_codec
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.packed_lists import read_list
from openwit.schemas.common.wording import counted

_SAMPLE_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 18

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodedText:
    """A decoded text.

    Attributes:
        text: without a byte order mark.
        codec: Python's name of the charset.
        guessed: whether nothing declared the charset and it is not UTF-8.
        lost: characters that could not be decoded; they are U+FFFD in the text.
    """

    text: str
    codec: str
    guessed: bool
    lost: int

    def note(self) -> str:
        """Return what is to be said about the charset; empty for UTF-8 and declared charsets without a loss."""
        taken = f"read as {self.codec}, which nothing declares" if self.guessed else ""
        lost = f"{counted(self.lost, 'character')} could not be decoded" if self.lost else ""
        return "; ".join(part for part in (taken, lost) if part)


def decode_text(data: bytes) -> DecodedText:
    """Decode a text of unknown charset; never fails."""
    wide, mark = wide_codec(data[:_SAMPLE_BYTES])
    if wide is not None:
        return _decoded(data[mark:], wide, guessed=mark == 0)
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return DecodedText(data.decode(), "utf-8", guessed=False, lost=0)
    except UnicodeDecodeError:
        return _decoded(data, detect_or_western(data), guessed=True)


def read_text(path: Path, *, say: Callable[[str], None] | None = None, once: bool = False) -> str:
    """Read a text file of unknown charset, compressed or not; a charset that was guessed is said.

    Args:
        path: the file.
        say: called with one line about a guess or a loss; by default it is logged as a warning.
        once: see `refuse_special`.

    Raises:
        DataError: see `read_list`; or it is no text.
    """
    return said(decode_text(read_list(path, str(path), once=once)), str(path), say=say)


def said(decoded: DecodedText, name: str, *, say: Callable[[str], None] | None = None) -> str:
    """Return a decoded text, after one line about a guess or a loss, if there was one.

    Raises:
        DataError: it holds NUL characters, as no text does.
    """
    if "\0" in decoded.text:
        raise DataError(f"{name} is not a text file")
    if note := decoded.note():
        (say or _warn)(f"{name}: {note}")
    return decoded.text


class Utf8Stream(io.RawIOBase):
    """Read a stream of UTF-16 or UTF-32 as UTF-8, chunk by chunk."""

    def __init__(self, stream: Any, codec: str, mark: int, lose: Callable[[int], None] | None = None) -> None:
        """Wrap a stream.

        Args:
            stream: has `read`.
            codec: of the stream.
            mark: bytes of the byte order mark at its beginning.
            lose: called at the end with the number of characters that could not be decoded, if there are any.
        """
        super().__init__()
        self._stream = stream
        self._decode = codecs.getincrementaldecoder(codec)("replace")
        self._skip = mark
        self._ready = memoryview(b"")
        self._at_end = False
        self._lost = 0
        self._lose = lose

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with UTF-8."""
        while not self._ready and not self._at_end:
            chunk = bytes(self._stream.read(_CHUNK_BYTES))
            self._at_end = not chunk
            text = self._decode.decode(chunk[self._skip :], self._at_end)
            self._skip = 0
            self._lost += text.count("\ufffd")
            if self._at_end and self._lost and self._lose is not None:
                self._lose(self._lost)
            self._ready = memoryview(text.encode("utf-8", "replace"))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def _decoded(data: bytes, codec: str, *, guessed: bool) -> DecodedText:
    text = data.decode(codec, "replace")
    return DecodedText(text, codec, guessed, text.count("\ufffd"))


def _warn(line: str) -> None:
    _log.warning("%s", line)

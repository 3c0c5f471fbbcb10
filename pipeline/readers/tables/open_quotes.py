"""Drop the lines of a quoted table in which a quote is opened and never closed, so that they cost only themselves.

A parser takes everything up to the next quote as one field: a single stray quote swallows the lines after it, or the
rest of the file. Here a record that spans lines must close its quote before a delimiter or a line end, within a
budget, and the lines inside must not look like records of their own; otherwise its first line is dropped.
"""

import io
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

MAX_RECORD_LINES = 1_000
MAX_RECORD_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18
_FAST_BYTES = 1 << 14
_QUOTE, _LF, _CR = 34, 10, 13


class ClosedQuotes(io.RawIOBase):
    """Read a stream of CSV, without the lines that open a quote and never close it."""

    def __init__(
        self, stream: Any, delimiter: str, drop: Callable[[int], None], *, lines: int = 0, columns: int = 0
    ) -> None:
        """Wrap a stream.

        Args:
            stream: has `read`, and begins at the start of a record.
            delimiter: between fields.
            drop: called with the number of each dropped line, from 1.
            lines: number of lines before the stream.
            columns: of the table; 0 if the stream begins with its first line.
        """
        super().__init__()
        self._records = _records(_lines(stream), RecordSplitter(delimiter, drop, lines=lines, columns=columns))
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with whole records."""
        while not self._ready:
            found = next(self._records, None)
            if found is None:
                return 0
            self._ready = memoryview(found)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def _lines(stream: Any) -> Iterator[bytes]:
    """Yield the stream's lines, with their ends, many at a time; a lone carriage return ends a line too."""
    rest = b""
    while chunk := bytes(stream.read(_CHUNK_BYTES)):
        text = rest + chunk
        end = max(text.rfind(b"\n"), text.rfind(b"\r", 0, len(text) - 1)) + 1
        rest = text[end:]
        if end:
            yield text[:end]
    if rest:
        yield rest


def _records(blocks: Iterator[bytes], splitter: "RecordSplitter") -> Iterator[bytes]:
    """Yield runs of whole records."""
    for block in blocks:
        if ready := splitter.feed_lines(block):
            yield b"".join(ready)
    while splitter.pending:
        if ready := splitter.give_up():
            yield b"".join(ready)


class RecordSplitter:
    """Collect lines into records.

    Attributes:
        pending: lines of a record whose quote is open.
        columns: of the table's first line; 0 before it.
        lines: number of the first pending line, or of the last line of the last record, from 1.
    """

    def __init__(self, delimiter: str, drop: Callable[[int], None], *, lines: int = 0, columns: int = 0) -> None:
        """Begin at the start of a record; see `ClosedQuotes`."""
        self.pending: list[bytes] = []
        self.columns = columns
        self.lines = lines
        self._delimiter = delimiter.encode()
        self._drop = drop

    def feed_lines(self, text: bytes) -> list[bytes]:
        """Take whole lines; return whole records. Where all quotes are in order, no line is looked at by itself."""
        ready: list[bytes] = []
        at = 0
        while at < len(text):
            is_between = bool(self.columns and not self.pending)
            end = _line_end(text, at + _FAST_BYTES if is_between else at)
            if is_between:
                later = _line_end(text, end)  # the block may have ended inside quotes
                good = next((each for each in (end, later) if in_order(text[at:each], self._delimiter)), None)
                if good is not None:
                    block = text[at:good]
                    self.lines += block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
                    ready.append(block)
                    at = good
                    continue
            ready += self.feed(text[at:end].splitlines(keepends=True))
            at = end
        return ready

    def feed(self, lines: list[bytes]) -> list[bytes]:
        """Take lines; return those of the records that are whole."""
        ready: list[bytes] = []
        queue = deque(lines)
        while queue:
            line = queue.popleft()
            if not self.pending:
                self.lines += 1
                self.columns = self.columns or _columns(line, self._delimiter)
                if b'"' not in line or _state(line, self._delimiter, opened=False)[0]:
                    ready.append(line)
                else:
                    self.pending = [line]
                continue
            self.pending.append(line)
            closed, proper = _state(line, self._delimiter, opened=True)
            if closed and proper and not _look_like_records(self.pending[1:-1], self._delimiter, self.columns):
                self.lines += len(self.pending) - 1
                ready += self.pending
                self.pending = []
            elif closed or not proper or _too_long(self.pending):
                queue.extendleft(reversed(self._without_first()))
        return ready

    def give_up(self) -> list[bytes]:
        """Drop the first pending line at the end of the stream; return what is whole among the others."""
        return self.feed(self._without_first())

    def _without_first(self) -> list[bytes]:
        rest, self.pending = self.pending[1:], []
        self._drop(self.lines)
        return rest


def _line_end(text: bytes, at: int) -> int:
    """Return the place after the first line feed at or after a place, or the end of the text."""
    return text.find(b"\n", at) + 1 or len(text)


def in_order(text: bytes, delimiter: bytes) -> bool:
    """Return whether whole lines are whole records by a glance at their quotes; False leaves it open.

    Each quote opens a field or doubles a quote, or closes before a delimiter, a line end or a quote; and no record
    spans more than two lines.
    """
    data = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    if not len(quotes):
        return True
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    before = np.where(opening > 0, data[opening - 1], _LF)
    after = np.where(closing + 1 < len(data), data[np.minimum(closing + 1, len(data) - 1)], _LF)
    ends = np.zeros(256, bool)
    ends[[delimiter[0], _LF, _CR, _QUOTE]] = True
    if not (ends[before].all() and ends[after].all()):
        return False
    is_end = data == _LF
    if b"\r" in text:
        is_return = data == _CR
        is_return[:-1] &= ~is_end[1:]
        is_end |= is_return
    line_ends = np.flatnonzero(is_end)
    first, last = np.searchsorted(line_ends, opening), np.searchsorted(line_ends, closing)
    spans = np.flatnonzero(last > first)
    return bool((last[spans] - first[spans] == 1).all() and (first[spans][1:] > last[spans][:-1]).all())


def _too_long(lines: list[bytes]) -> bool:
    return len(lines) > MAX_RECORD_LINES or (len(lines) % 16 == 0 and sum(map(len, lines)) > MAX_RECORD_BYTES)


def _state(line: bytes, delimiter: bytes, *, opened: bool) -> tuple[bool, bool]:
    """Return (whether no quote is open at the end, whether the first closing quote ended its field)."""
    at, proper, first = 0, True, opened
    while True:
        if not opened:
            if line[at : at + 1] != b'"':
                after = line.find(delimiter, at)
                if after < 0:
                    return True, proper
                at = after + 1
                continue
            at += 1
        opened = False
        while True:
            quote = line.find(b'"', at)
            if quote < 0:
                return False, proper
            if line[quote + 1 : quote + 2] != b'"':
                break
            at = quote + 2
        at = quote + 1
        if first and line[at : at + 1] not in (delimiter, b"\n", b"\r", b""):
            proper = False
        first = False
        after = line.find(delimiter, at)
        if after < 0:
            return True, proper
        at = after + 1


def _columns(line: bytes, delimiter: bytes) -> int:
    return line.count(delimiter) + 1


def _look_like_records(lines: list[bytes], delimiter: bytes, columns: int) -> bool:
    """Return whether the lines inside a quoted field are records of the table, which a stray quote swallowed.

    They have as many columns as the header, and each has a URL, as every pair of a text table has.
    """
    return len(lines) > 0 and all(_columns(line, delimiter) == columns and b"://" in line for line in lines)

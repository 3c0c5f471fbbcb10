"""Drop the lines of a quoted table in which a quote is opened and never closed, so that they cost only themselves.

A parser takes everything up to the next quote as one field: a single stray quote swallows the lines after it, or the
rest of the file. Here a record that spans lines must close its quote before a delimiter or a line end, within a
budget, and the lines inside must not look like records of their own; otherwise its first line is dropped.
"""

import io
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

MAX_RECORD_LINES = 1_000
MAX_RECORD_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18


class ClosedQuotes(io.RawIOBase):
    """Read a stream of CSV, without the lines that open a quote and never close it."""

    def __init__(self, stream: Any, delimiter: str, drop: Callable[[int], None]) -> None:
        """Wrap a stream with `read`; `drop` is called with the number of each dropped line, from 1."""
        super().__init__()
        self._records = _records(_lines(stream), delimiter.encode(), drop)
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


def _lines(stream: Any) -> Iterator[list[bytes]]:
    """Yield the stream's lines, with their ends, in lists; a lone carriage return ends a line too."""
    rest = b""
    while chunk := bytes(stream.read(_CHUNK_BYTES)):
        text = rest + chunk
        end = max(text.rfind(b"\n"), text.rfind(b"\r", 0, len(text) - 1)) + 1
        rest = text[end:]
        if end:
            yield text[:end].splitlines(keepends=True)
    if rest:
        yield rest.splitlines(keepends=True)


def _records(blocks: Iterator[list[bytes]], delimiter: bytes, drop: Callable[[int], None]) -> Iterator[bytes]:
    """Yield runs of whole records."""
    splitter = _Splitter(delimiter, drop)
    for block in blocks:
        if ready := splitter.feed(block):
            yield b"".join(ready)
    while splitter.pending:
        if ready := splitter.give_up():
            yield b"".join(ready)


class _Splitter:
    """Collect lines into records; `pending` are the lines of a record whose quote is open."""

    def __init__(self, delimiter: bytes, drop: Callable[[int], None]) -> None:
        self.pending: list[bytes] = []
        self._delimiter = delimiter
        self._drop = drop
        self._number = 0  # of the first pending line, or of the last line of the last record, from 1
        self._columns = 0

    def feed(self, lines: list[bytes]) -> list[bytes]:
        """Take lines; return those of the records that are whole."""
        ready: list[bytes] = []
        queue = deque(lines)
        while queue:
            line = queue.popleft()
            if not self.pending:
                self._number += 1
                self._columns = self._columns or _columns(line, self._delimiter)
                if b'"' not in line or _state(line, self._delimiter, opened=False)[0]:
                    ready.append(line)
                else:
                    self.pending = [line]
                continue
            self.pending.append(line)
            closed, proper = _state(line, self._delimiter, opened=True)
            if closed and proper and not _look_like_records(self.pending[1:-1], self._delimiter, self._columns):
                self._number += len(self.pending) - 1
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
        self._drop(self._number)
        return rest


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

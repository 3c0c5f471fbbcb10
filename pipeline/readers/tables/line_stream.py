"""Hand on a stream in whole lines, as file objects that Arrow reads; memory is limited by the longest row."""

import io
from typing import Any

LONGEST_LINE = 16 << 20
"""Bytes of a row that Arrow parses, and so of a line that is kept whole; longer ones are handed on in pieces."""


class LineStream(io.RawIOBase):
    """Whole lines of a stream. Subclasses say how a chunk is read, and what becomes of lines and of the last one."""

    def __init__(self) -> None:
        super().__init__()
        self._ready = memoryview(b"")
        self._line: list[bytes] = []  # the start of a line whose end is not read yet
        self._line_bytes = 0
        self._at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._at_end:
            self._fill()
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _chunk(self) -> bytes:
        """Return the next bytes; none at the end."""
        raise NotImplementedError

    def _lines(self, data: bytes) -> bytes:
        """Return what is handed on of some lines."""
        return data

    def _last(self, data: bytes) -> bytes:
        """Return what is handed on of a last line without an end."""
        return self._lines(data)

    def _fill(self) -> None:
        chunk = self._chunk()
        end = chunk.rfind(b"\n") + 1
        if chunk and not end and self._line_bytes + len(chunk) <= LONGEST_LINE:
            self._keep(chunk)
            return
        self._at_end = not chunk
        data = b"".join((*self._line, chunk[:end] if end else chunk))
        self._line, self._line_bytes = [], 0
        if end:
            self._keep(chunk[end:])
        self._ready = memoryview(self._lines(data) if chunk else self._last(data))

    def _keep(self, start: bytes) -> None:
        if start:
            self._line.append(start)
            self._line_bytes += len(start)

"""Find places in a text table where a row begins, in one pass, whatever its quotes, by the rules of `open_quotes`."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from openwit.pipeline.readers.tables.open_quotes import RecordSplitter
from openwit.pipeline.readers.tables.text_layout import TextLayout

_LONGEST_ROW_BYTES = 32 << 20
"""Longest row, in bytes, whose end is looked for: a longer one cannot be read either."""

_BOM = codecs.BOM_UTF8


@dataclass(frozen=True)
class RowStart:
    """A place where a row begins.

    Attributes:
        offset: in the file.
        lines: number of lines before it, for JSON lines and tables with quotes; else 0.
        columns: of the table's first line, for tables with quotes; else 0.
    """

    offset: int
    lines: int
    columns: int


def row_starts(file: BinaryIO, kind: str, layout: TextLayout, *, chunk_bytes: int) -> Iterator[RowStart]:
    """Yield places where a row begins, ascending: at most one in `chunk_bytes`, after the first row or header.

    The end of the file is one, too, if a row could begin there.

    Args:
        file: at its start.
        kind: csv | tsv | jsonl.
        layout: of the file.
        chunk_bytes: read at a time; 1 finds every start.
    """
    splitter = RecordSplitter(layout.delimiter, lambda _: None) if layout.quoted else None
    offset = 0
    lines = 0
    has_row = False
    for raw in _blocks(file, kind, layout, chunk_bytes):
        text = _utf8(raw, layout, is_first=offset == 0)
        if splitter is None:
            lines += text.count(b"\n") if kind == "jsonl" else 0
            has_row = has_row or bool(text.removeprefix(_BOM).strip(b"\r\n"))
        else:
            ready = splitter.feed_lines(text)
            has_row = has_row or any(line.removeprefix(_BOM).strip(b"\r\n") for line in ready)
        offset += len(raw)
        if has_row and (splitter is None or not splitter.pending):
            yield RowStart(offset, splitter.lines if splitter else lines, splitter.columns if splitter else 0)


def _blocks(file: BinaryIO, kind: str, layout: TextLayout, chunk_bytes: int) -> Iterator[bytes]:
    """Yield whole lines of a file as they are stored, until a row is too long or the file ends inside a line."""
    unit = 1 if layout.wide is None else 4 if "32" in layout.wide else 2  # a byte order mark is a unit, too
    parts: list[bytes] = []
    length = 0
    while chunk := file.read(-(-chunk_bytes // unit) * unit):
        before = parts[-1][-1:] if parts else b""
        end = _line_end(before, chunk, kind, layout, unit)
        parts.append(chunk)
        length += len(chunk)
        if end is not None:
            text = b"".join(parts)
            end += length - len(chunk)
            yield text[:end]
            parts = [text[end:]] if end < length else []
            length -= end
        elif length > _LONGEST_ROW_BYTES:
            return


def _line_end(before: bytes, chunk: bytes, kind: str, layout: TextLayout, unit: int) -> int | None:
    """Return the place in a chunk after its last line end, given the byte before the chunk; None if there is none."""
    if layout.wide is not None:
        newline = "\n".encode(layout.wide)
        at = chunk.rfind(newline)
        while at >= 0 and at % unit:
            at = chunk.rfind(newline, 0, at + unit - 1)
        return at + unit if at >= 0 else None
    at = chunk.rfind(b"\n")
    if kind != "jsonl":  # a carriage return alone ends a line, too; the last byte may be followed by a line feed
        at = max(at, chunk.rfind(b"\r", 0, -1))
        if at < 0 and before == b"\r" and not chunk.startswith(b"\n"):
            return 0
    return at + 1 if at >= 0 else None


def _utf8(raw: bytes, layout: TextLayout, *, is_first: bool) -> bytes:
    if layout.wide is None:
        return raw
    return raw[layout.mark if is_first else 0 :].decode(layout.wide, "replace").encode("utf-8", "replace")

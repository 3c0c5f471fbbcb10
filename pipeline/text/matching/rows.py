"""Convert captions to rows of words: Arrow columns in, the buffer that the matching kernel reads out."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.text.matching.array_file import read_only
from openwit.pipeline.text.matching.character_tables import (
    CharacterTables,
    character_tables,
    known_character_tables,
)
from openwit.pipeline.text.matching.row_kernel import PADDING, spaced_rows, word_rows
from openwit.pipeline.text.matching.settings import MatchMode
from openwit.pipeline.text.normalise import ASCII_WORDS, normalise

# MetaCLIP separates the former as words, and treats the latter as spaces.
PUNCTUATION = ",.;:?!`"
BREAKS = "\t\n\r"
# Minimum number of non-ASCII rows in one call for which building the character tables (about a second) pays off.
ROWS_FOR_TABLES = 64


class Rows(NamedTuple):
    """Rows of words; a space ends each word and each row.

    buffer: uint64, the bytes, with some to spare at the end.
    starts, ends: int64 (N,), where each row's bytes begin and end; a row that ends before it begins has no words.
    """

    buffer: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


class Texts(NamedTuple):
    """Buffers of a text column. data: uint8. starts, ends: int64 (N,). valid: bool (N,), empty without nulls."""

    data: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    valid: np.ndarray

    def part(self, first: int, last: int) -> "Texts":
        """Return rows first to last - 1."""
        return Texts(self.data, self.starts[first:last], self.ends[first:last], self.valid[first:last])


def column_of(texts: Iterable[str | None]) -> pa.Array:
    """Return a column of any Python strings. Half a surrogate pair becomes bytes that are not UTF-8."""
    texts = list(texts)
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:
        encoded = [None if text is None else text.encode("utf-8", "surrogatepass") for text in texts]
        return pa.array(encoded, pa.large_binary()).view(pa.large_string())


def texts_of(column: pa.Array) -> Texts:
    """Return the buffers of a column of string, large_string or string_view, or of nulls only. Bytes are not copied.

    Raises:
        TypeError: the column holds something else.
    """
    if pa.types.is_string_view(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.large_string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise TypeError(f"captions must be a column of strings, not of {column.type}")
    width = np.int32 if pa.types.is_string(column.type) else np.int64
    _, offsets, data = column.buffers()
    rows = len(column)
    limits = np.zeros(rows + 1, np.int64)
    if rows:
        limits[:] = np.frombuffer(offsets, width, rows + 1, column.offset * np.dtype(width).itemsize)
    valid = np.zeros(0, np.bool_)
    if column.null_count:
        valid = np.array(pc.is_valid(column).to_numpy(zero_copy_only=False))
    bytes_ = np.frombuffer(b"" if data is None else data, np.uint8)
    return Texts(read_only(bytes_), limits[:-1], limits[1:], valid)


def rows_of(texts: Texts, mode: MatchMode, query: bool = False) -> Rows:
    """Return captions, or queries, as rows of words for `mode`: MetaCLIP takes queries as they are."""
    if mode == "metaclip":
        buffer, starts, ends = spaced_rows(*texts, _AS_IT_IS if query else _MARKS)
        return Rows(buffer.view(np.uint64), starts, ends)
    tables = known_character_tables() or _NO_TABLES
    buffer, starts, ends, unsure = word_rows(*texts, _ASCII_WORDS, *tables)
    if tables is _NO_TABLES and np.count_nonzero(unsure) >= ROWS_FOR_TABLES:
        buffer, starts, ends, unsure = word_rows(*texts, _ASCII_WORDS, *character_tables())
    rows = np.flatnonzero(unsure)
    if len(rows):
        found = (texts.data[texts.starts[row] : texts.ends[row]].tobytes() for row in rows)
        more, starts[rows], ends[rows] = _laid_out([normalise(text.decode("utf-8", "replace")) for text in found])
        starts[rows] += len(buffer)
        ends[rows] += len(buffer)
        buffer = np.concatenate([buffer, more])
    return Rows(buffer.view(np.uint64), starts, ends)


def _laid_out(texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    encoded = [text.encode() for text in texts]
    joined = b" ".join(encoded)
    buffer = np.full(len(joined) // 8 * 8 + PADDING, ord(" "), np.uint8)
    buffer[: len(joined)] = np.frombuffer(joined, np.uint8)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    ends = np.cumsum(lengths + 1) - 1
    return buffer, ends - lengths, ends


def _marks(punctuation: str, breaks: str) -> np.ndarray:
    marks = np.zeros((2, 256), np.uint8)
    marks[0] = np.arange(256)
    for character in punctuation:
        marks[1, ord(character)] = 1
    for character in breaks:
        marks[0, ord(character)] = ord(" ")
    return marks


_MARKS = _marks(PUNCTUATION, BREAKS)
_AS_IT_IS = _marks("", "")
_ASCII_WORDS = read_only(np.frombuffer(ASCII_WORDS, np.uint8))
_NO_TABLES = CharacterTables(
    read_only(np.zeros(0, np.uint32)),
    read_only(np.zeros(0, np.int32)),
    read_only(np.zeros(0, np.uint8)),
)

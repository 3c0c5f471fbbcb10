"""Convert captions to rows of words, compiled: from the bytes of an Arrow column to the input of `words`.

Bytes that are not UTF-8 separate words in `word_rows`; `spaced_rows` copies them, and they match nothing that is
UTF-8.
"""

# Compiled code: numba's numbers, not Python's.
# mypy: disable-error-code="no-any-return,assignment,return-value,arg-type,call-overload"

import numpy as np

from openwit.pipeline.common.compiled import compiled

# Kinds of characters, see openwit.pipeline.text.matching.character_tables.
SAME, UNSURE, SEPARATOR, NOTHING, MARK, ALONE, PIECE = range(7)
# Bytes past the last row that may be read; they make the buffer a whole number of 64-bit numbers.
PADDING = 32
_SPACE = 32
_BROKEN = 0xFFFD


@compiled
def _check(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> int:
    """Return the number of bytes of all rows; raise an error if some are outside the data."""
    total = 0
    for row in range(len(starts)):
        if starts[row] < 0 or ends[row] < starts[row] or ends[row] > len(data):
            raise ValueError("the offsets of the text column do not fit its bytes")
        total += ends[row] - starts[row]
    return total


@compiled
def _goes_on(data: np.ndarray, at: int) -> bool:
    return data[at] & 0xC0 == 0x80


@compiled
def _bits(data: np.ndarray, at: int) -> int:
    return np.int64(data[at]) & 0x3F


@compiled
def _decode(data: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Return code point and length of the character at `at` (RFC 3629); an invalid byte is U+FFFD, of length 1."""
    lead = np.int64(data[at])
    size, code = 1, _BROKEN
    if lead < 0x80:
        code = lead
    elif lead < 0xE0:
        if lead >= 0xC2 and at + 1 < end and _goes_on(data, at + 1):
            size, code = 2, (lead & 0x1F) << 6 | _bits(data, at + 1)
    elif lead < 0xF0:
        if at + 2 < end and _goes_on(data, at + 1) and _goes_on(data, at + 2):
            found = (lead & 0x0F) << 12 | _bits(data, at + 1) << 6 | _bits(data, at + 2)
            if found >= 0x800 and not 0xD800 <= found <= 0xDFFF:
                size, code = 3, found
    elif at + 3 < end and _goes_on(data, at + 1) and _goes_on(data, at + 2) and _goes_on(data, at + 3):
        found = (lead & 0x07) << 18 | _bits(data, at + 1) << 12 | _bits(data, at + 2) << 6 | _bits(data, at + 3)
        if lead <= 0xF4 and 0x10000 <= found <= 0x10FFFF:
            size, code = 4, found
    return code, size


@compiled
def _copy(data: np.ndarray, at: int, size: int, out: np.ndarray, pos: int) -> None:
    """Copy a character of two bytes or more. A loop would become a call."""
    out[pos], out[pos + 1] = data[at], data[at + 1]
    if size > 2:
        out[pos + 2] = data[at + 2]
    if size > 3:
        out[pos + 3] = data[at + 3]


@compiled
def _end_word(out: np.ndarray, word: int, pos: int, letters: bool) -> int:
    """End the word that began at `word`: marks alone are not a word. Return where the next may begin."""
    if not letters or pos == word:
        return word
    out[pos] = _SPACE
    return pos + 1


@compiled
def _unicode_row(
    data: np.ndarray,
    at: int,
    end: int,
    out: np.ndarray,
    pos: int,
    limit: int,
    ascii_words: np.ndarray,
    facts: np.ndarray,
    piece_starts: np.ndarray,
    pieces: np.ndarray,
) -> int:
    """Write the words of a row at `pos`; return where they end, or -1 for a row that needs `normalise`."""
    word, letters, before = pos, False, 0
    if len(facts) == 0:
        return -1
    while at < end:
        if pos + 8 > limit:
            return -1
        byte = data[at]
        if byte < 0x80:
            before = 0
            at += 1
            out[pos] = ascii_words[byte]
            if out[pos] == _SPACE:
                word = pos = _end_word(out, word, pos, letters)
                letters = False
            else:
                pos += 1
                letters = True
            continue
        code, size = _decode(data, at, end)
        fact = np.int64(facts[code])
        if fact == SAME:
            _copy(data, at, size, out, pos)
            pos += size
            at += size
            letters, before = True, 0
            continue
        kind, order = fact & 0xFF, fact >> 8 & 0xFF
        if kind == UNSURE or (order > 0 and before > order):
            return -1
        before = fact >> 16
        if kind == SEPARATOR:
            word = pos = _end_word(out, word, pos, letters)
            letters = False
        elif kind in (SAME, MARK, ALONE):
            if kind == ALONE:
                word = pos = _end_word(out, word, pos, letters)
            _copy(data, at, size, out, pos)
            pos += size
            letters |= kind != MARK
            if kind == ALONE:
                word = pos = _end_word(out, word, pos, letters)
                letters = False
        elif kind == PIECE:
            if pos + piece_starts[code + 1] - piece_starts[code] + 8 > limit:
                return -1
            for i in range(piece_starts[code], piece_starts[code + 1]):
                if pieces[i] == _SPACE:
                    word = pos = _end_word(out, word, pos, letters)
                    letters = False
                else:
                    out[pos] = pieces[i]
                    pos += 1
                    letters = True
        at += size
    return _end_word(out, word, pos, letters)


@compiled
def word_rows(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    valid: np.ndarray,
    ascii_words: np.ndarray,
    facts: np.ndarray,
    piece_starts: np.ndarray,
    pieces: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the words of each row as `normalise` finds them, separated by one or more spaces.

    Args:
        data: uint8, the bytes of the column.
        starts, ends: int64 (N,), where each row's bytes begin and end.
        valid: bool (N,), false for nulls; or empty when there are none.
        ascii_words: uint8 (256,), the result of `normalise` for each ASCII byte.
        facts, piece_starts, pieces: openwit.pipeline.text.matching.character_tables; or all empty, and rows beyond
            ASCII need `normalise`.

    Returns:
        The rows, uint8; starts and ends, int64 (N,), a null ends before it begins; bool (N,), rows that need
        `normalise`.
    """
    out = np.empty((2 * _check(data, starts, ends) + 17 * len(starts)) // 8 * 8 + PADDING, np.uint8)
    out_starts, out_ends = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
    unsure = np.zeros(len(starts), np.bool_)
    pos = 0
    for row in range(len(starts)):
        out_starts[row] = pos
        if len(valid) > 0 and not valid[row]:
            out_ends[row] = pos - 1
            continue
        size = ends[row] - starts[row]
        high = np.uint8(0)
        for i in range(size):
            byte = data[starts[row] + i]
            high |= byte
            out[pos + i] = ascii_words[byte]
        end = pos + size
        if high >= 0x80:
            end = _unicode_row(
                data, starts[row], ends[row], out, pos, pos + 2 * size + 16,
                ascii_words, facts, piece_starts, pieces,
            )  # fmt: skip
            if end < 0:
                unsure[row] = True
                end = pos
        out_ends[row] = end
        out[end] = _SPACE
        pos = end + 1
    out[pos : pos + PADDING] = _SPACE
    return out, out_starts, out_ends, unsure


@compiled
def spaced_rows(
    data: np.ndarray, starts: np.ndarray, ends: np.ndarray, valid: np.ndarray, marks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return MetaCLIP's form of each row without the space at either end.

    Args:
        data, starts, ends, valid: as in `word_rows`.
        marks: uint8 (2, 256): the byte that replaces each, and 1 where it is separated from its neighbours.

    Returns:
        The rows, uint8; starts and ends, int64 (N,), a null ends before it begins.
    """
    out = np.empty((3 * _check(data, starts, ends) + len(starts)) // 8 * 8 + PADDING, np.uint8)
    out_starts, out_ends = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
    pos = 0
    for row in range(len(starts)):
        out_starts[row] = pos
        if len(valid) > 0 and not valid[row]:
            out_ends[row] = pos - 1
            continue
        for i in range(starts[row], ends[row]):
            byte = data[i]
            apart = np.int64(marks[1, byte])
            # The last of three writes to one place counts: no branch.
            out[pos + 2 * apart] = _SPACE
            out[pos] = _SPACE
            out[pos + apart] = marks[0, byte]
            pos += 1 + 2 * apart
        out_ends[row] = pos
        out[pos] = _SPACE
        pos += 1
    out[pos : pos + PADDING] = _SPACE
    return out, out_starts, out_ends

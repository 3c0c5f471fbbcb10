"""Look up words by their bytes, compiled: the first half of matching.

A text here is a row of bytes in which one space ends every word, including the last. Rows are in one buffer, seen as
64-bit little-endian numbers with three to spare at the end, so that eight bytes are read at a time.

Words of up to 16 bytes are their own key. Longer ones are found by 128 bits of hash and then compared byte by byte.
The table is uint64 (slots, 4), open addressing: the key's two halves; length << 32 | word + 1, or 0 if a slot is
empty; what the second half of matching needs of the word (openwit.pipeline.text.matching.runs).
"""

# Compiled code: numba's numbers, not Python's.
# mypy: disable-error-code="no-any-return,assignment,return-value,arg-type,call-overload"

import numpy as np

from openwit.pipeline.common.compiled import compiled

# A word of no query: it has no answer, no children, and its number occurs in no edge.
UNKNOWN = np.uint64(0xFFFFFFFFFFFFFFFE)
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_SPACES = np.uint64(0x2020202020202020)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xC2B2AE3D27D4EB4F)
_MIX_C = np.uint64(0x165667B19E3779F9)
_U0, _U1, _U3, _U7 = np.uint64(0), np.uint64(1), np.uint64(3), np.uint64(7)
_U29, _U32, _U56, _U63 = np.uint64(29), np.uint64(32), np.uint64(56), np.uint64(63)
# Bytes of a word that fit its key.
_INLINE = 16
# Words looked up together: their slots are fetched from memory side by side.
_GROUP = 256


@compiled
def _eight(buffer: np.ndarray, at: int) -> np.uint64:
    """Return the eight bytes from `at`."""
    word = at >> 3
    shift = np.uint64(at & 7) << _U3
    return (buffer[word] >> shift) | ((buffer[word + 1] << _U1) << (_U63 - shift))


@compiled
def _before_space(eight: np.uint64) -> int:
    """Return how many of eight bytes are before the first space."""
    other = eight ^ _SPACES
    found = (other - _ONES) & ~other & _HIGHS
    lowest = (found & (_U0 - found)) >> _U7
    return np.int64((((lowest - _U1) & _ONES) * _ONES) >> _U56)


@compiled
def _key(buffer: np.ndarray, at: int) -> tuple[np.uint64, np.uint64, int]:
    """Return the key of the word that begins at `at`, and its length in bytes."""
    first = _eight(buffer, at)
    length = _before_space(first)
    if length < 8:
        return first & ((_U1 << (np.uint64(length) << _U3)) - _U1), _U0, length
    second = _eight(buffer, at + 8)
    more = _before_space(second)
    if more < 8:
        return first, second & ((_U1 << (np.uint64(more) << _U3)) - _U1), 8 + more
    length = 16
    while True:
        eight = _eight(buffer, at + length)
        more = _before_space(eight)
        if more == 0:
            return first, second, length
        if more < 8:
            eight &= (_U1 << (np.uint64(more) << _U3)) - _U1
        first = (first ^ eight) * _MIX_A
        first ^= first >> _U29
        second = (second + eight) * _MIX_B
        second ^= second >> _U32
        length += more
        if more < 8:
            return first, second, length


@compiled
def _spread(first: np.uint64, second: np.uint64, length: int) -> np.uint64:
    """Hash of a key. The upper bits are the good ones."""
    mixed = (first ^ (np.uint64(length) << _U56)) * _MIX_A
    mixed ^= mixed >> _U32
    mixed = (mixed ^ second * _MIX_C) * _MIX_B
    return mixed ^ (mixed >> _U29)


@compiled
def _same(buffer: np.ndarray, at: int, stored: np.ndarray, start: int, length: int) -> bool:
    for i in range(length):
        byte = np.uint8(buffer[(at + i) >> 3] >> (np.uint64((at + i) & 7) << _U3))
        if byte != stored[start + i]:
            return False
    return True


@compiled
def _find_word(
    words: np.ndarray,
    buffer: np.ndarray,
    at: int,
    first: np.uint64,
    second: np.uint64,
    length: int,
    long_starts: np.ndarray,
    long_bytes: np.ndarray,
) -> int:
    """Return the slot of a word; if it is not in the table, -1 - the empty slot it would take."""
    mask = np.uint64(words.shape[0] - 1)
    slot = np.int64(_spread(first, second, length) & mask)
    while True:
        meta = words[slot, 2]
        if meta == _U0:
            return -1 - slot
        if words[slot, 0] == first and words[slot, 1] == second and np.int64(meta >> _U32) == length:
            number = np.int64(meta & _LOW_HALF) - 1
            if length <= _INLINE or _same(buffer, at, long_bytes, long_starts[number], length):
                return slot
        slot = np.int64(np.uint64(slot + 1) & mask)


@compiled
def _room(values: np.ndarray, needed: int) -> np.ndarray:
    """Return a copy of the values with room for `needed`. Call it only when short: passing arrays costs time."""
    larger = np.empty(max(needed, 2 * len(values)), values.dtype)
    for place in range(len(values)):  # a slice would compile for seconds
        larger[place] = values[place]
    return larger


@compiled
def _look_up_group(
    buffer: np.ndarray,
    keys: np.ndarray,
    places: np.ndarray,
    n: int,
    words: np.ndarray,
    long_starts: np.ndarray,
    long_bytes: np.ndarray,
    found: np.ndarray,
) -> np.uint64:
    """Look up n words. keys: uint64 (G, 2). places: int64 (G, 3), length, where in the buffer, where in `found`."""
    mask = np.uint64(words.shape[0] - 1)
    # Independent loads first, before those that decide what comes next.
    touched = _U0
    for i in range(n):
        touched |= words[np.int64(_spread(keys[i, 0], keys[i, 1], places[i, 0]) & mask), 2]
    for i in range(n):
        slot = _find_word(words, buffer, places[i, 1], keys[i, 0], keys[i, 1], places[i, 0], long_starts, long_bytes)
        found[places[i, 2]] = words[slot, 3] if slot >= 0 else UNKNOWN
    return touched


@compiled
def look_up_rows(
    buffer: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    empty_counts: bool,
    words: np.ndarray,
    long_starts: np.ndarray,
    long_bytes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.uint64]:
    """Look up the words of many rows.

    Args:
        buffer: uint64, the bytes of the rows.
        starts, ends: int64 (N,), where each row's bytes begin and end; a row that ends before it begins has no words.
        empty_counts: whether nothing between two spaces is a word.
        words, long_starts, long_bytes: from `number_words`.

    Returns:
        The last column of the table for each word, `UNKNOWN` for words of no query and once more after each row,
        uint64; where each row's words begin, int64 (N + 1,); and a number without meaning.
    """
    found = np.empty(1024, np.uint64)
    offsets = np.zeros(len(starts) + 1, np.int64)
    keys, places = np.empty((_GROUP, 2), np.uint64), np.empty((_GROUP, 3), np.int64)
    total, waiting, touched = 0, 0, _U0
    for row in range(len(starts)):
        at, end = starts[row], ends[row]
        needed = total + max(0, end - at) + 2
        if needed > len(found):
            found = _room(found, needed)
        while at <= end:
            first, second, length = _key(buffer, at)
            if length > 0 or empty_counts:
                keys[waiting, 0], keys[waiting, 1] = first, second
                places[waiting, 0], places[waiting, 1], places[waiting, 2] = length, at, total
                waiting += 1
                total += 1
                if waiting == _GROUP:
                    touched |= _look_up_group(buffer, keys, places, waiting, words, long_starts, long_bytes, found)
                    waiting = 0
            at += length + 1
        found[total] = UNKNOWN
        total += 1
        offsets[row + 1] = total
    touched |= _look_up_group(buffer, keys, places, waiting, words, long_starts, long_bytes, found)
    return found[:total], offsets, touched


@compiled
def number_words(
    buffer: np.ndarray, starts: np.ndarray, ends: np.ndarray, empty_counts: bool, capacity: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Number the words of a list in order of appearance.

    Args:
        buffer, starts, ends, empty_counts: the queries, as in `look_up_rows`; one whose words are all empty has none.
        capacity: at least the number of words of all queries.

    Returns:
        Table of words; bytes of the long ones, int64 starts by word number and the bytes; the words of all queries,
        int32, and where each query's begin, int64 (Q + 1,); the number of words.
    """
    words = np.zeros((1 << 10, 4), np.uint64)
    long_starts = np.zeros(1 << 10, np.int64)
    long_bytes = np.zeros(1 << 10, np.uint8)
    sequence = np.empty(capacity, np.int32)
    offsets = np.zeros(len(starts) + 1, np.int64)
    known, filled, total = 0, 0, 0
    for row in range(len(starts)):
        at = starts[row]
        begin, some = total, False
        while at <= ends[row]:
            first, second, length = _key(buffer, at)
            if length == 0 and not empty_counts:
                at += 1
                continue
            some |= length > 0
            slot = _find_word(words, buffer, at, first, second, length, long_starts, long_bytes)
            if slot < 0:
                words[-1 - slot, 0], words[-1 - slot, 1] = first, second
                words[-1 - slot, 2] = (np.uint64(length) << _U32) | np.uint64(known + 1)
                if known == len(long_starts):
                    long_starts = _room(long_starts, known + 1)
                long_starts[known] = filled
                if length > _INLINE:
                    if filled + length > len(long_bytes):
                        long_bytes = _room(long_bytes, filled + length)
                    for i in range(at, at + length):
                        long_bytes[filled] = np.uint8(buffer[i >> 3] >> (np.uint64(i & 7) << _U3))
                        filled += 1
                sequence[total] = known
                known += 1
                if 8 * known > 5 * len(words):
                    words = _regrown_words(words)
            else:
                sequence[total] = np.int64(words[slot, 2] & _LOW_HALF) - 1
            total += 1
            at += length + 1
        if not some:
            total = begin
        offsets[row + 1] = total
    return words, long_starts[:known].copy(), long_bytes[:filled].copy(), sequence[:total].copy(), offsets, known


@compiled
def _regrown_words(words: np.ndarray) -> np.ndarray:
    larger = np.zeros((2 * len(words), 4), np.uint64)
    mask = np.uint64(len(larger) - 1)
    for row in range(len(words)):
        if words[row, 2] != _U0:
            slot = np.int64(_spread(words[row, 0], words[row, 1], np.int64(words[row, 2] >> _U32)) & mask)
            while larger[slot, 2] != _U0:
                slot = np.int64(np.uint64(slot + 1) & mask)
            larger[slot] = words[row]
    return larger

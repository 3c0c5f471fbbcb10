"""Convert answers to query ids, compiled: the last step of matching."""

# Compiled code: numba's numbers, not Python's.
# mypy: disable-error-code="no-any-return,assignment,return-value,arg-type,call-overload"

import numpy as np

from openwit.pipeline.common.compiled import compiled

NONE = -1
# Up to this many numbers are sorted by counting the smaller ones of each, this many at a time.
_FEW = 64
_STEP = 16
_LARGEST = np.int32(0x7FFFFFFF)


@compiled
def _room(values: np.ndarray, needed: int) -> np.ndarray:
    """Return a copy of the values with room for `needed`. Call it only when short: passing arrays costs time."""
    larger = np.empty(max(needed, 2 * len(values)), values.dtype)
    for place in range(len(values)):  # a slice would compile for seconds
        larger[place] = values[place]
    return larger


@compiled
def _settle(found: np.ndarray, n: int, sorted_: np.ndarray) -> int:
    """Sort the first n numbers and drop repeats; return how many remain.

    Few numbers are each written at the index given by the count of smaller ones, equal ones at one index, without
    branches.
    """
    if n <= 1:
        return n
    kept = 0
    if n <= _FEW:
        steps = (n + _STEP - 1) // _STEP
        for i in range(n, steps * _STEP):
            found[i] = _LARGEST
        sorted_[: steps * _STEP] = NONE
        for i in range(n):
            value, below = found[i], np.int32(0)
            for step in range(steps):
                for j in range(_STEP):
                    below += np.int32(found[step * _STEP + j] < value)
            sorted_[below] = value
        for i in range(n):
            found[kept] = sorted_[i]
            kept += np.int64(sorted_[i] != NONE)
        return kept
    found[:n].sort()
    kept = 1
    for i in range(1, n):
        if found[i] != found[kept - 1]:
            found[kept] = found[i]
            kept += 1
    return kept


@compiled
def _with_groups(
    found: np.ndarray, n: int, queries: int, group_starts: np.ndarray, group_ids: np.ndarray
) -> tuple[int, np.ndarray]:
    """Return the queries that the first n numbers refer to, unordered."""
    single, total = n, n
    while single > 0 and found[single - 1] >= queries:
        single -= 1
    for i in range(single, n):
        group = found[i] - queries
        size = group_starts[group + 1] - group_starts[group]
        if total + size + _FEW > len(found):
            found = _room(found, total + size + _FEW)
        for j in range(size):
            found[total + j] = group_ids[group_starts[group] + j]
        total += size
    for i in range(n, total):
        found[single + i - n] = found[i]
    return single + total - n, found


@compiled
def ids_of_rows(
    answers: np.ndarray, starts: np.ndarray, queries: int, group_starts: np.ndarray, group_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the queries of each row, ascending and once.

    Args:
        answers, starts: from `runs.answer_rows`.
        queries: number of queries.
        group_starts, group_ids: the queries of each group, ascending, int32; groups begin at int64 (G + 1,).

    Returns:
        Query ids, int32; where each row's begin, int64 (N + 1,).
    """
    rows = len(starts) - 1
    offsets = np.zeros(rows + 1, np.int64)
    sorted_, found = np.empty(_FEW, np.int32), np.empty(2 * _FEW, np.int32)
    values = np.empty(len(answers), np.int32)
    total = 0
    for row in range(rows):
        begin, count = starts[row], starts[row + 1] - starts[row]
        if count + _FEW > len(found):
            found = _room(found, count + _FEW)
        for i in range(count):
            found[i] = answers[begin + i]
        count = _settle(found, count, sorted_)
        # Groups sort last.
        if count > 0 and found[count - 1] >= queries:
            count, found = _with_groups(found, count, queries, group_starts, group_ids)
            count = _settle(found, count, sorted_)
        if total + count > len(values):
            values = _room(values, total + count)
        for i in range(count):
            values[total + i] = found[i]
        total += count
        offsets[row + 1] = total
    return values[:total], offsets

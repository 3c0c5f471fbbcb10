"""Build a query list's tables for matching in memory, or map them from a checked file."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from openwit.pipeline.text.matching.array_file import load_arrays, save_arrays
from openwit.pipeline.text.matching.ids import ids_of_rows
from openwit.pipeline.text.matching.rows import Rows
from openwit.pipeline.text.matching.runs import answer_rows, grow_trie, link_nodes
from openwit.pipeline.text.matching.words import look_up_rows, number_words

# Version of the file: increase it when the meaning of the tables changes.
_VERSION = 2
# Bits of the sieve per edge: one in eight absent edges passes.
_SIEVE_BITS = 8
_U32, _LOW_HALF = np.uint64(32), np.uint64(0xFFFFFFFF)


class Tables(NamedTuple):
    """The arrays that the kernels read; see `words` and `runs`. All arrays are read-only."""

    words: np.ndarray
    long_starts: np.ndarray
    long_bytes: np.ndarray
    edges: np.ndarray
    sieve: np.ndarray
    nodes: np.ndarray
    group_starts: np.ndarray
    group_ids: np.ndarray


class MatchIndex(NamedTuple):
    """A query list ready for matching. queries: their number."""

    queries: int
    tables: Tables

    def match(self, rows: Rows, empty_counts: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the query ids of each row, ascending and once: ids, int32; where each row's begin, int64 (N + 1,)."""
        tables = self.tables
        packed, starts, _ = look_up_rows(*rows, empty_counts, tables.words, tables.long_starts, tables.long_bytes)
        every = self.queries + len(tables.group_starts) - 1
        answers, starts = answer_rows(packed, starts, tables.edges, tables.sieve, tables.nodes, every)
        ids, starts = ids_of_rows(answers, starts, self.queries, tables.group_starts, tables.group_ids)
        return ids, starts


def build_index(rows: Rows, empty_counts: bool) -> MatchIndex:
    """Build the index of a list, one row per query. Equal rows match together; one of empty words never matches."""
    queries = len(rows.starts)
    capacity = int(np.count_nonzero(rows.buffer.view(np.uint8) == ord(" "))) + queries
    words, long_starts, long_bytes, sequence, offsets, known = number_words(*rows, empty_counts, capacity)
    edges, parents, lasts, ends = grow_trie(sequence, offsets, known)
    answers, group_starts, group_ids = _answers(ends, known + len(parents))
    sieve = np.zeros(max(1, 1 << (_SIEVE_BITS * len(parents) // 64).bit_length()), np.uint64)
    nodes = link_nodes(edges, parents, lasts, known, answers, sieve)
    numbers = np.arange(len(nodes), dtype=np.int64)
    packed = answers.astype(np.uint32).astype(np.uint64) << _U32 | (2 * numbers + (nodes[:, 3] == numbers)).astype(
        np.uint64
    )
    used = words[:, 2] != 0
    words[used, 3] = packed[(words[used, 2] & _LOW_HALF).astype(np.int64) - 1]
    used = edges[:, 1] != 0
    edges[used, 1] = packed[(edges[used, 1] >> np.uint64(1)).astype(np.int64)]
    tables = Tables(words, long_starts, long_bytes, edges, sieve, nodes, group_starts, group_ids)
    return read_only(MatchIndex(queries, tables))


def _answers(ends: np.ndarray, nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the answer of each node, int32; where the groups of equal queries begin, int64; their ids, int32."""
    ids = np.argsort(ends, kind="stable")[np.count_nonzero(ends < 0) :].astype(np.int32)
    where, first, sizes = np.unique(ends[ids], return_index=True, return_counts=True)
    answers = np.full(nodes, -1, np.int32)
    answers[where] = ids[first]
    several = sizes > 1
    answers[where[several]] = len(ends) + np.arange(np.count_nonzero(several))
    return answers, np.concatenate([[0], np.cumsum(sizes[several])]), ids[np.repeat(several, sizes)]


def read_only(index: MatchIndex) -> MatchIndex:
    """Return the same index with its arrays locked."""
    for array in index.tables:
        array.flags.writeable = False
    return index


def save_index(index: MatchIndex, path: Path, key: str) -> None:
    """Write an index, whole or not at all. `key` names what it was built from; reading requires the same key."""
    save_arrays(path, index.tables, {"version": _VERSION, "key": key, "queries": index.queries})


def load_index(path: Path, key: str, *, begin: bool = False) -> MatchIndex | None:
    """Map an index into memory; None if it is missing, damaged, of another version or of another key.

    Args:
        begin: whether `key` is only the begin of the key.
    """
    found = load_arrays(path)
    if found is None or found.facts.get("version") != _VERSION:
        return None
    held = str(found.facts["key"])
    if held != key and not (begin and held.startswith(key)):
        return None
    return MatchIndex(int(found.facts["queries"]), Tables(*found.arrays))

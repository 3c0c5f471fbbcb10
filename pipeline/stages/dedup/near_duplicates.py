"""Search near duplicates on 64-bit perceptual hashes, and choose the survivors. Keys only, no images.

Candidates by the pigeonhole principle: when two hashes differ in at most R bits and the bits are cut into R + 2
blocks, at least two blocks are equal. So every pair of blocks is a key, and equal keys are compared exactly:
nothing within R bits is missed.
"""

from itertools import combinations, pairwise

import numpy as np

from openwit.pipeline.common.compiled import compiled, differing_bits

_BITS = 64


def block_masks(max_distance: int) -> np.ndarray:
    """Return the bit masks of the keys: uint64 (K,), one per pair of the R + 2 blocks."""
    edges = np.linspace(0, _BITS, max_distance + 3).astype(int)
    blocks = [sum(1 << bit for bit in range(start, end)) for start, end in pairwise(edges)]
    return np.array([a | b for a, b in combinations(blocks, 2)], np.uint64)


def pairs_within(keys: np.ndarray, hashes: np.ndarray, max_distance: int) -> np.ndarray:
    """Return pairs of rows with equal key whose hashes differ in at most `max_distance` bits.

    Args:
        keys: uint64 (N,).
        hashes: uint64 (N,).
        max_distance: R.

    Returns:
        int64 (P, 2) of row numbers, first < second in key order.
    """
    order = np.argsort(keys, kind="stable")
    keys, hashes = keys[order], hashes[order]
    found = np.empty((_count(keys, hashes, max_distance), 2), np.int64)
    _list(keys, hashes, max_distance, order, found)
    return found


@compiled
def _count(keys: np.ndarray, hashes: np.ndarray, max_distance: int) -> int:
    found = 0
    for a in range(len(keys)):
        b = a + 1
        while b < len(keys) and keys[b] == keys[a]:
            found += differing_bits(hashes[a], hashes[b]) <= max_distance
            b += 1
    return found


@compiled
def _list(keys: np.ndarray, hashes: np.ndarray, max_distance: int, rows: np.ndarray, found: np.ndarray) -> None:
    n = 0
    for a in range(len(keys)):
        b = a + 1
        while b < len(keys) and keys[b] == keys[a]:
            if differing_bits(hashes[a], hashes[b]) <= max_distance:
                found[n, 0], found[n, 1] = rows[a], rows[b]
                n += 1
            b += 1


def survivors(edges: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Choose survivors: in order of rank, each node not yet dropped survives and drops its neighbours.

    So every dropped node is a neighbour of its survivor (chains do not collapse), and no two survivors are neighbours.

    Args:
        edges: int64 (E, 2) of node numbers below N.
        rank: int64 (N,), a permutation; the lowest of two neighbours survives.

    Returns:
        int64 (N,): the survivor of each node, itself for survivors.
    """
    stands = np.full(len(rank), -1, np.int64)
    starts, neighbours = _adjacency(np.ascontiguousarray(edges, np.int64), len(rank))
    _choose(np.argsort(rank, kind="stable"), starts, neighbours, stands)
    return stands


@compiled
def _adjacency(edges: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where each node's neighbours begin, int64 (N + 1,), and the neighbours of all, int64 (2 E,)."""
    starts = np.zeros(n + 1, np.int64)
    for edge in range(len(edges)):
        starts[edges[edge, 0] + 1] += 1
        starts[edges[edge, 1] + 1] += 1
    for node in range(n):
        starts[node + 1] += starts[node]
    filled = starts.copy()
    neighbours = np.empty(2 * len(edges), np.int64)
    for edge in range(len(edges)):
        a, b = edges[edge, 0], edges[edge, 1]
        neighbours[filled[a]] = b
        filled[a] += 1
        neighbours[filled[b]] = a
        filled[b] += 1
    return starts, neighbours


@compiled
def _choose(order: np.ndarray, starts: np.ndarray, neighbours: np.ndarray, stands: np.ndarray) -> None:
    for place in range(len(order)):
        node = order[place]
        if stands[node] >= 0:
            continue
        stands[node] = node
        for at in range(starts[node], starts[node + 1]):
            if stands[neighbours[at]] < 0:
                stands[neighbours[at]] = node

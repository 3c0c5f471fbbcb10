"""Group duplicate images and choose the survivor of each group, on arrays of keys.

Images of equal perceptual hash and similar descriptor are one node, known by its best image. Nodes within a few
bits are neighbours, and the survivors are the greedy independent set in order of rank: no two survivors are
neighbours, and every dropped node has a survivor among its neighbours, so that chains of small differences do not
collapse into one image. One round of that greedy choice is local (a node that ranks before all its neighbours
survives independently of the others), which is what lets many workers do nearly all of it; only nodes that no such
round decides go to one worker.
"""

from typing import NamedTuple

import numpy as np

from openwit.pipeline.images.descriptor import is_similar
from openwit.pipeline.stages.dedup.near_duplicates import survivors

Columns = dict[str, np.ndarray]

_FREQUENT_BIT, _HELD_OUT_BIT = np.uint64(1 << 63), np.uint64(1 << 62)
_LENGTH_BITS = 22
_AREA_LIMIT, _LENGTH_LIMIT = (1 << 40) - 1, (1 << _LENGTH_BITS) - 1


class Groups(NamedTuple):
    """Groups of images with equal hash and similar descriptor: the nodes.

    Attributes:
        of: int64 (N,), the group of each image.
        best: int64 (G,), the image of each group that ranks first.
        frequent: bool (G,), whether the image has enough different texts to count as a logo or placeholder.
    """

    of: np.ndarray
    best: np.ndarray
    frequent: np.ndarray


def rank_words(held_out: np.ndarray, area: np.ndarray, text_length: np.ndarray) -> np.ndarray:
    """Rank images as uint64 (N,), lowest first: held-out ones, then the largest, then the one of the longest text.

    Held-out images rank first because their duplicates must not be in the training split.

    Args:
        held_out: bool (N,).
        area: int64 (N,), pixels as served.
        text_length: int64 (N,), characters.
    """
    packed = np.minimum(area, _AREA_LIMIT).astype(np.uint64) << np.uint64(_LENGTH_BITS)
    packed |= np.minimum(text_length, _LENGTH_LIMIT).astype(np.uint64)
    packed |= np.where(held_out, _HELD_OUT_BIT, np.uint64(0))
    # Inverted below the top bit, which `frequent_first` clears: frequent images rank before all others.
    ranks: np.ndarray = (_FREQUENT_BIT - np.uint64(1) - packed) | _FREQUENT_BIT
    return ranks


def frequent_first(ranks: np.ndarray, frequent: np.ndarray) -> np.ndarray:
    """Rank nodes as `rank_words` does, frequent ones before all others: they drop their neighbours."""
    moved: np.ndarray = np.where(frequent, ranks & ~_FREQUENT_BIT, ranks)
    return moved


def is_frequent(ranks: np.ndarray) -> np.ndarray:
    """Return which nodes `frequent_first` moved before all others: bool (N,)."""
    frequent: np.ndarray = ranks < _FREQUENT_BIT
    return frequent


def equal_groups(images: Columns, prints: np.ndarray | None, frequent_texts: int | None) -> Groups:
    """Group images of equal hash by the best of them that they are similar to.

    Args:
        images: `hash`, `rank`, `tie` and `text` (a hash of the image's text), uint64 (N,) each.
        prints: uint8 (N, 44), descriptors; None if equal hashes mean equal images.
        frequent_texts: different texts from which on an image counts as frequent; None for never.
    """
    order = np.lexsort((images["tie"], images["rank"], images["hash"]))
    hashes = images["hash"][order]
    first = np.r_[True, hashes[1:] != hashes[:-1]] if len(order) else np.zeros(0, bool)
    # The position in the order of the image that represents each.
    leader = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0)) if len(order) else order
    if prints is not None:
        _split_dissimilar(leader, np.flatnonzero(first), prints[order])
    places, numbers = np.unique(leader, return_inverse=True)
    group = np.empty(len(order), np.int64)
    group[order] = numbers
    frequent = np.zeros(len(places), bool)
    if frequent_texts is not None and len(order):
        distinct = np.unique(np.stack([group.astype(np.uint64), images["text"]], axis=1), axis=0)
        frequent = np.bincount(distinct[:, 0].astype(np.int64), minlength=len(places)) >= frequent_texts
    return Groups(group, order[places], frequent)


def _split_dissimilar(leader: np.ndarray, starts: np.ndarray, prints: np.ndarray) -> None:
    """Let the first similar image in each run of equal hashes represent an image; writes into `leader`."""
    ends = np.r_[starts[1:], len(leader)]
    several = np.flatnonzero(ends - starts > 1)
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        rest = np.arange(start, end)
        while len(rest):
            same = is_similar(prints[rest], prints[rest[0]])
            same[0] = True
            leader[rest[same]] = rest[0]
            rest = rest[~same]


def first_meeting(xor: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the first mask under which two hashes are equal, int64 (P,): a pair is reported there and only there.

    Args:
        xor: uint64 (P,), exclusive or of the two hashes; zero under some mask.
        masks: uint64 (K,), see `block_masks`.
    """
    number: np.ndarray = ((xor[:, None] & masks[None, :]) == 0).argmax(axis=1)
    return number


def _survives(edges: Columns) -> np.ndarray:
    """Return whether the node of each edge ranks before its neighbour: bool (E,)."""
    mine, theirs = edges["node_rank"], edges["other_rank"]
    before: np.ndarray = (mine < theirs) | ((mine == theirs) & (edges["node_tie"] < edges["other_tie"]))
    return before


def best_neighbour(edges: Columns) -> np.ndarray:
    """Return the row of each node's neighbour that ranks first: int64 (V,), in order of `node_id`.

    Args:
        edges: directed: `node_id`, and `other_rank` and `other_tie` of a neighbour; uint64 (E,). No two nodes have
            both in common.
    """
    order = np.lexsort((edges["other_tie"], edges["other_rank"], edges["node_id"]))
    nodes = edges["node_id"][order]
    if not len(order):
        return order
    rows: np.ndarray = order[np.r_[True, nodes[1:] != nodes[:-1]]]
    return rows


def local_survivors(edges: Columns) -> np.ndarray:
    """Return ids of nodes that rank before all their neighbours: uint64, ascending.

    Args:
        edges: directed, as in `best_neighbour`, with `node_rank` and `node_tie`; all of a node's edges.
    """
    best = best_neighbour(edges)
    first = {name: values[best] for name, values in edges.items()}
    ids: np.ndarray = first["node_id"][_survives(first)]
    return ids


def settle(edges: Columns) -> np.ndarray:
    """Decide the remaining nodes: return the row of the edge to its survivor for every dropped node, int64.

    Args:
        edges: directed edges from undecided nodes, as in `local_survivors`. A neighbour that sends no edge itself
            is decided and dropped: it cannot survive, or it would have decided this node.
    """
    nodes = np.unique(edges["node_id"])
    a, b = np.searchsorted(nodes, edges["node_id"]), np.searchsorted(nodes, edges["other_id"])
    b = np.minimum(b, max(0, len(nodes) - 1))
    open_ = np.flatnonzero(nodes[b] == edges["other_id"]) if len(nodes) else np.zeros(0, np.int64)
    first = np.full(len(nodes), -1, np.int64)
    first[a[::-1]] = np.arange(len(a))[::-1]
    rank = np.empty(len(nodes), np.int64)
    rank[np.lexsort((edges["node_tie"][first], edges["node_rank"][first]))] = np.arange(len(nodes))
    stands = survivors(np.stack([a[open_], b[open_]], axis=1), rank)
    chosen: np.ndarray = open_[(stands[a[open_]] == b[open_]) & (a[open_] != b[open_])]
    return chosen

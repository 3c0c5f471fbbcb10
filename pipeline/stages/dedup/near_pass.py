"""Dedup, part of the first pass: find the nodes that lose to a similar neighbour.

Nodes meet by the blocks of their hash (the largest shuffle: 17 bytes per node and block, 28 blocks at the default
distance), those within the distance are compared by their descriptors, and neighbours send each other which node
survives (see `openwit.pipeline.stages.dedup.copies` for why two rounds are enough for nearly all).
"""

from collections.abc import Iterator

import numpy as np

from openwit.pipeline.execution.blobs import split_by, to_blob
from openwit.pipeline.execution.jobs import Emitted, Grouping, KeyedBlob, Round, Streams
from openwit.pipeline.images.descriptor import is_similar
from openwit.pipeline.stages.dedup.copies import (
    Columns,
    best_neighbour,
    equal_groups,
    first_meeting,
    frequent_first,
    local_survivors,
    settle,
)
from openwit.pipeline.stages.dedup.keys import NODE, by_bucket, columns_of, table_of
from openwit.pipeline.stages.dedup.near_duplicates import pairs_within
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.stages.select.hash_uniform import mix

IMAGES, LOST = "images", "lost"
"""Streams: keys of images by bucket of their hash; nodes that lose, by the same bucket, and who survives instead."""
_NODES, _BLOCKS, _PAIRS, _HALF = "nodes", "blocks", "pairs", "pairs with first ends"
_NEIGHBOURS, _CLAIMS, _OPEN = "neighbours", "claims", "open nodes"
# What is known of a node: its id, its rank, and the bucket where its images meet.
_END = ("id", "rank", "tie", "hash")
_DECIDED = ("node_id", "node_hash", *(f"other_{name}" for name in NODE))


def near_rounds(settings: DedupSettings, masks: np.ndarray, buckets: int, block_buckets: int) -> list[Round]:
    """Return the rounds from `IMAGES` to `LOST`.

    Args:
        settings: with a maximum distance.
        masks: uint64 (K,), the blocks; see `block_masks`.
        buckets: of images and nodes.
        block_buckets: of the nodes' blocks, K times as many rows.
    """
    assert settings.max_distance is not None
    send = SendNodes(settings.frequent_texts, masks, buckets, block_buckets)
    return [
        Round("One node per look", (IMAGES,), send, (_NODES, _BLOCKS)),
        Round("Find near nodes", (_BLOCKS,), FindNear(settings.max_distance, masks, buckets), (_PAIRS,)),
        Round("Attach first ends", (_PAIRS, _NODES), AttachFirst(buckets), (_HALF,)),
        Round("Compare looks", (_HALF, _NODES), CompareLooks(buckets), (_NEIGHBOURS,)),
        Round("Message neighbours", (_NEIGHBOURS,), MessageNeighbours(buckets), (_CLAIMS,)),
        Round("Decide nodes", (_CLAIMS,), DecideNodes(buckets), (LOST, _OPEN)),
        Round("Settle open nodes", (_OPEN,), SettleNodes(buckets), (LOST,)),
    ]


class SendNodes(Grouping):
    """(bucket, images) -> (bucket of a node's id, what is known of it); and (bucket of a block, ids and hashes)."""

    def __init__(self, frequent_texts: int | None, masks: np.ndarray, buckets: int, block_buckets: int) -> None:
        self.frequent_texts = frequent_texts
        self.masks = masks
        self.buckets = buckets
        self.block_buckets = block_buckets

    def process(self, key: int, streams: Streams) -> Emitted:  # noqa: ARG002
        images = columns_of(streams[IMAGES])
        groups = equal_groups(images, images["descriptor"], self.frequent_texts)
        nodes = {name: images[name][groups.best] for name in (*NODE, "descriptor")}
        nodes["rank"] = frequent_first(nodes["rank"], groups.frequent)
        yield from by_bucket(_NODES, nodes, "id", self.buckets)
        rows = {name: np.tile(nodes[name], len(self.masks)) for name in ("id", "hash")}
        rows["block"] = np.repeat(np.arange(len(self.masks), dtype=np.uint8), len(groups.best))
        bucket = _block_keys(rows, self.masks) % np.uint64(self.block_buckets)
        for number, part in split_by(table_of(rows), bucket.astype(np.int64)):
            yield KeyedBlob(_BLOCKS, number, to_blob(part))


class FindNear(Grouping):
    """(bucket, ids and hashes by block) -> (bucket of the first, pairs of ids within the distance)."""

    def __init__(self, max_distance: int, masks: np.ndarray, buckets: int) -> None:
        self.max_distance = max_distance
        self.masks = masks
        self.buckets = buckets

    def process(self, key: int, streams: Streams) -> Emitted:  # noqa: ARG002
        nodes = columns_of(streams[_BLOCKS])
        pairs = pairs_within(_block_keys(nodes, self.masks), nodes["hash"], self.max_distance)
        a, b = pairs[:, 0], pairs[:, 1]
        # Two hashes are in one group for every block that they share; the first of them reports the pair.
        once = first_meeting(nodes["hash"][a] ^ nodes["hash"][b], self.masks) == nodes["block"][a]
        yield from by_bucket(_PAIRS, {"a": nodes["id"][a[once]], "b": nodes["id"][b[once]]}, "a", self.buckets)


class AttachFirst(Grouping):
    """(bucket, pairs and nodes) -> (bucket of the second, pairs with what is known of the first)."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def process(self, key: int, streams: Streams) -> Emitted:  # noqa: ARG002
        for pairs, known in _attached(streams[_PAIRS], streams[_NODES], "a"):
            rows = {f"a_{name}": values for name, values in known.items()}
            yield from by_bucket(_HALF, {"b": pairs["b"], **rows}, "b", self.buckets)


class CompareLooks(Grouping):
    """(bucket, pairs and nodes) -> (bucket of a node, its neighbours): similar ones, each pair in both directions."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def process(self, key: int, streams: Streams) -> Emitted:  # noqa: ARG002
        for pairs, known in _attached(streams[_HALF], streams[_NODES], "b"):
            same = np.flatnonzero(is_similar(pairs["a_descriptor"], known["descriptor"]))
            ends = [{name: values[same] for name, values in known.items()}]
            ends.append({name: pairs[f"a_{name}"][same] for name in known})
            for node, other in (ends, ends[::-1]):
                rows = {f"node_{name}": node[name] for name in NODE}
                rows |= {f"other_{name}": other[name] for name in _END}
                yield from by_bucket(_NEIGHBOURS, rows, "node_id", self.buckets)


class MessageNeighbours(Grouping):
    """(bucket, neighbours of its nodes) -> (bucket of a neighbour, the node, and whether it survives)."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def process(self, key: int, streams: Streams) -> Emitted:  # noqa: ARG002
        edges = columns_of(streams[_NEIGHBOURS])
        turned = {f"node_{name}": edges[f"other_{name}"] for name in _END}
        turned |= {f"other_{name}": edges[f"node_{name}"] for name in NODE}
        turned["claimed"] = np.isin(edges["node_id"], local_survivors(edges))
        yield from by_bucket(_CLAIMS, turned, "node_id", self.buckets)


class DecideNodes(Grouping):
    """(bucket, messages to its nodes) -> nodes that lose to a survivor; and edges of nodes still undecided."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def process(self, key: int, streams: Streams) -> Emitted:  # noqa: ARG002
        edges = columns_of(streams[_CLAIMS])
        claims = {name: values[edges["claimed"]] for name, values in edges.items()}
        best = best_neighbour(claims)
        yield from by_bucket(LOST, {name: claims[name][best] for name in _DECIDED}, "node_hash", self.buckets)
        decided = np.union1d(local_survivors(edges), claims["node_id"])
        waiting = ~np.isin(edges["node_id"], decided)
        if waiting.any():
            rest = table_of({name: values[waiting] for name, values in edges.items() if name != "claimed"})
            yield KeyedBlob(_OPEN, 0, to_blob(rest))


class SettleNodes(Grouping):
    """All edges of undecided nodes -> those that lose, in one worker: few nodes, see `dedup.copies`."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def process(self, key: int, streams: Streams) -> Emitted:  # noqa: ARG002
        edges = columns_of(streams[_OPEN])
        chosen = settle(edges)
        yield from by_bucket(LOST, {name: edges[name][chosen] for name in _DECIDED}, "node_hash", self.buckets)


def _attached(with_pairs: list[bytes], with_nodes: list[bytes], end: str) -> Iterator[tuple[Columns, Columns]]:
    """Yield the pairs of a bucket with the known facts of the nodes at one end, aligned; nothing without pairs."""
    if with_pairs:
        pairs = columns_of(with_pairs)
        nodes = columns_of(with_nodes)
        by_id = np.argsort(nodes["id"])
        at = by_id[np.searchsorted(nodes["id"][by_id], pairs[end])]
        yield pairs, {name: values[at] for name, values in nodes.items()}


def _block_keys(rows: Columns, masks: np.ndarray) -> np.ndarray:
    """Return one key per row, equal for hashes that share the row's block: uint64 (N,)."""
    # The key includes the block's number, so that equal bits of different blocks do not match.
    number = (rows["block"].astype(np.uint64) + np.uint64(1)) << np.uint64(56)
    return mix((rows["hash"] & masks[rows["block"]]) ^ number)

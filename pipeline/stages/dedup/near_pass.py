"""Dedup, within the first pass: which nodes lose to a neighbour that looks alike.

Nodes meet by the blocks of their hash (the largest shuffle: 17 bytes a node and block, 28 blocks at the default
distance), those within the distance are compared by their fingerprints, and neighbours tell each other who survives
(see `openwit.pipeline.stages.dedup.copies` for why two rounds are enough for nearly all).
"""

from collections.abc import Iterator
from typing import Literal

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import TaggedOutput

from openwit.pipeline.execution.blobs import split_by, to_blob
from openwit.pipeline.images.fingerprint import alike
from openwit.pipeline.stages.dedup.copies import (
    Columns,
    best_neighbour,
    equal_groups,
    first_meeting,
    frequent_first,
    local_survivors,
    settle,
)
from openwit.pipeline.stages.dedup.keys import NODE, Blobs, Joined, Keyed, by_bucket, columns_of, table_of
from openwit.pipeline.stages.dedup.near_duplicates import pairs_within
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.stages.select.hash_uniform import mix

# What a node must know of itself: who it is, how it ranks, and where its images meet.
_END = ("id", "rank", "tie", "hash")
_DECIDED = ("node_id", "node_hash", *(f"other_{name}" for name in NODE))
# Beam reads the tags and types of a step's outputs from its annotation.
Nodes = Iterator[tuple[int, bytes] | TaggedOutput[Literal["blocks"], tuple[int, bytes]]]
Decided = Iterator[tuple[int, bytes] | TaggedOutput[Literal["open"], tuple[int, bytes]]]


def find_losers(
    images: beam.PCollection, settings: DedupSettings, masks: np.ndarray | None, buckets: int, block_buckets: int
) -> beam.PCollection:
    """(bucket of the hash, images) -> (the same bucket, nodes that lose, with the image that stands for them)."""
    grouped = images | "Group images by hash" >> beam.GroupByKey()
    if masks is None or settings.max_distance is None:
        return grouped | "None is near" >> beam.FlatMap(lambda _: ()).with_output_types(tuple[int, bytes])
    nodes = grouped | "One of each look" >> beam.ParDo(
        SendNodes(settings.frequent_texts, masks, buckets, block_buckets)
    ).with_outputs(SendNodes.BLOCKS, main="known")
    near = (
        nodes[SendNodes.BLOCKS]
        | "Group nodes by block" >> beam.GroupByKey()
        | "Find near nodes" >> beam.ParDo(FindNear(settings.max_distance, masks, buckets))
    )
    half = (
        {"pairs": near, "nodes": nodes.known}
        | "Join pairs and first ends" >> beam.CoGroupByKey()
        | "Attach first ends" >> beam.ParDo(AttachFirst(buckets))
    )
    neighbours = (
        {"pairs": half, "nodes": nodes.known}
        | "Join pairs and second ends" >> beam.CoGroupByKey()
        | "Compare looks" >> beam.ParDo(CompareLooks(buckets))
    )
    edges = (
        neighbours
        | "Group neighbours by node" >> beam.GroupByKey()
        | "Tell neighbours" >> beam.ParDo(TellNeighbours(buckets))
        | "Group tidings by node" >> beam.GroupByKey()
        | "Decide nodes" >> beam.ParDo(DecideNodes(buckets)).with_outputs(DecideNodes.OPEN, main="decided")
    )
    settled = (
        edges[DecideNodes.OPEN]
        | "Gather open nodes" >> beam.GroupByKey()
        | "Settle open nodes" >> beam.ParDo(SettleNodes(buckets))
    )
    return (edges.decided, settled) | "All losers" >> beam.Flatten()


class SendNodes(beam.DoFn):
    """(bucket, images) -> (bucket of a node's id, what is known of it); and (bucket of a block, ids and hashes)."""

    BLOCKS = "blocks"

    def __init__(self, frequent_texts: int | None, masks: np.ndarray, buckets: int, block_buckets: int) -> None:
        self.frequent_texts = frequent_texts
        self.masks = masks
        self.buckets = buckets
        self.block_buckets = block_buckets

    def process(self, element: Blobs) -> Nodes:
        images = columns_of(element[1])
        groups = equal_groups(images, images["print"], self.frequent_texts)
        nodes = {name: images[name][groups.best] for name in (*NODE, "print")}
        nodes["rank"] = frequent_first(nodes["rank"], groups.frequent)
        yield from by_bucket(nodes, "id", self.buckets)
        rows = {name: np.tile(nodes[name], len(self.masks)) for name in ("id", "hash")}
        rows["block"] = np.repeat(np.arange(len(self.masks), dtype=np.uint8), len(groups.best))
        bucket = _block_keys(rows, self.masks) % np.uint64(self.block_buckets)
        for number, part in split_by(table_of(rows), bucket.astype(np.int64)):
            yield TaggedOutput(self.BLOCKS, (number, to_blob(part)))


class FindNear(beam.DoFn):
    """(bucket, ids and hashes by block) -> (bucket of the first, pairs of ids within the distance)."""

    def __init__(self, max_distance: int, masks: np.ndarray, buckets: int) -> None:
        self.max_distance = max_distance
        self.masks = masks
        self.buckets = buckets

    def process(self, element: Blobs) -> Keyed:
        nodes = columns_of(element[1])
        pairs = pairs_within(_block_keys(nodes, self.masks), nodes["hash"], self.max_distance)
        a, b = pairs[:, 0], pairs[:, 1]
        # Two hashes meet under every block they share; the first of them reports the pair.
        once = first_meeting(nodes["hash"][a] ^ nodes["hash"][b], self.masks) == nodes["block"][a]
        yield from by_bucket({"a": nodes["id"][a[once]], "b": nodes["id"][b[once]]}, "a", self.buckets)


class AttachFirst(beam.DoFn):
    """(bucket, pairs and nodes) -> (bucket of the second, pairs with what is known of the first)."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def process(self, element: Joined) -> Keyed:
        for pairs, known in _attached(element, "a"):
            rows = {f"a_{name}": values for name, values in known.items()}
            yield from by_bucket({"b": pairs["b"], **rows}, "b", self.buckets)


class CompareLooks(beam.DoFn):
    """(bucket, pairs and nodes) -> (bucket of a node, its neighbours): those that look alike, each pair both ways."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def process(self, element: Joined) -> Keyed:
        for pairs, known in _attached(element, "b"):
            same = np.flatnonzero(alike(pairs["a_print"], known["print"]))
            ends = [{name: values[same] for name, values in known.items()}]
            ends.append({name: pairs[f"a_{name}"][same] for name in known})
            for node, other in (ends, ends[::-1]):
                rows = {f"node_{name}": node[name] for name in NODE}
                rows |= {f"other_{name}": other[name] for name in _END}
                yield from by_bucket(rows, "node_id", self.buckets)


class TellNeighbours(beam.DoFn):
    """(bucket, neighbours of its nodes) -> (bucket of a neighbour, the node, and whether it survives)."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def process(self, element: Blobs) -> Keyed:
        edges = columns_of(element[1])
        turned = {f"node_{name}": edges[f"other_{name}"] for name in _END}
        turned |= {f"other_{name}": edges[f"node_{name}"] for name in NODE}
        turned["claimed"] = np.isin(edges["node_id"], local_survivors(edges))
        yield from by_bucket(turned, "node_id", self.buckets)


class DecideNodes(beam.DoFn):
    """(bucket, tidings to its nodes) -> nodes that lose to a survivor; and edges of those that cannot know yet."""

    OPEN = "open"

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def process(self, element: Blobs) -> Decided:
        edges = columns_of(element[1])
        claims = {name: values[edges["claimed"]] for name, values in edges.items()}
        best = best_neighbour(claims)
        yield from by_bucket({name: claims[name][best] for name in _DECIDED}, "node_hash", self.buckets)
        decided = np.union1d(local_survivors(edges), claims["node_id"])
        waiting = ~np.isin(edges["node_id"], decided)
        if waiting.any():
            rest = table_of({name: values[waiting] for name, values in edges.items() if name != "claimed"})
            yield TaggedOutput(self.OPEN, (0, to_blob(rest)))


class SettleNodes(beam.DoFn):
    """All edges of undecided nodes -> those that lose, in one worker: few nodes, see `dedup.copies`."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def process(self, element: Blobs) -> Keyed:
        edges = columns_of(element[1])
        chosen = settle(edges)
        yield from by_bucket({name: edges[name][chosen] for name in _DECIDED}, "node_hash", self.buckets)


def _attached(element: Joined, end: str) -> Iterator[tuple[Columns, Columns]]:
    """The pairs of a bucket with what is known of the nodes at one of their ends, aligned; nothing for no pairs."""
    blobs = list(element[1]["pairs"])
    if blobs:
        pairs = columns_of(blobs)
        nodes = columns_of(element[1]["nodes"])
        by_id = np.argsort(nodes["id"])
        at = by_id[np.searchsorted(nodes["id"][by_id], pairs[end])]
        yield pairs, {name: values[at] for name, values in nodes.items()}


def _block_keys(rows: Columns, masks: np.ndarray) -> np.ndarray:
    """A key a row, equal for hashes that share the row's block: uint64 (N,)."""
    # The block's number goes into the key, so that equal bits of different blocks do not meet.
    number = (rows["block"].astype(np.uint64) + np.uint64(1)) << np.uint64(56)
    return mix((rows["hash"] & masks[rows["block"]]) ^ number)

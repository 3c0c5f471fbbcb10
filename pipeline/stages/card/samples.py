"""Choose the samples that the card shows: the first of each split, and the first that match some queries.

The dataset's order is a shuffle by hash, so the first samples are a random sample.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.stages.card.source import CardSource
from openwit.pipeline.stages.card.texts import clip, marked
from openwit.pipeline.stages.card.thumbnails import picture_uri
from openwit.schemas.manifest import ShardEntry

COLUMNS = ("key", "url", "texts", "query_ids", "page_urls", "licenses", "original_width", "original_height")


@dataclass
class ShownSample:
    """A sample on the page.

    Attributes:
        text: which of its texts is shown.
        query: the query that it is an example of, -1 for none.
    """

    shard: ShardEntry
    row: int
    text: int
    query: int = -1

    def place(self) -> tuple[str, int]:
        """Return shard and row, which identify a sample."""
        return self.shard.name, self.row


def first_samples(source: CardSource, of_train: int) -> list[ShownSample]:
    """Return the first samples of train, and a quarter as many of every other split."""
    found: list[ShownSample] = []
    left = {split: of_train if split == "train" else -(-of_train // 4) for split in source.manifest.splits()}
    for shard in source.shards():
        n = min(left[shard.split], shard.samples)
        found += [ShownSample(shard, row, 0) for row in range(n)]
        left[shard.split] -= n
    return found


def samples_of_queries(source: CardSource, queries: Sequence[int], n: int) -> list[ShownSample]:
    """Return the first `n` samples of each query in the order of the dataset, train first; one text per sample.

    Reads one column of the metadata, as far as needed.
    """
    found: dict[int, list[ShownSample]] = {query: [] for query in queries}
    for shard in source.shards():
        open_ = [query for query in queries if len(found[query]) < n]
        if not open_:
            break
        column = source.metadata(shard, ["query_ids"]).column("query_ids").combine_chunks()
        for query, row, text in _matches(column, open_):
            if len(found[query]) < n and (not found[query] or found[query][-1].place() != (shard.name, row)):
                found[query].append(ShownSample(shard, row, text, query))
    return [sample for query in queries for sample in found[query]]


def _matches(query_ids: pa.Array, queries: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (query, row, number of the text in the row) of every match of some queries, sorted by row.

    Args:
        query_ids: lists of lists (N,): a list of queries for each text of each row.
    """
    row_of_text = pc.list_parent_indices(query_ids).to_numpy()
    texts = pc.list_flatten(query_ids)
    text_of_id = pc.list_parent_indices(texts).to_numpy()
    ids = pc.list_flatten(texts).to_numpy()
    starts = np.searchsorted(row_of_text, np.arange(len(query_ids)))
    for at in np.flatnonzero(np.isin(ids, np.asarray(queries))).tolist():
        text = int(text_of_id[at])
        row = int(row_of_text[text])
        yield int(ids[at]), row, text - int(starts[row])


def spread_ranks(pool: np.ndarray, held: np.ndarray, n: int) -> list[int]:
    """Return query IDs at ranks by pool that are evenly spaced on a logarithmic scale, from head to tail.

    Args:
        pool, held: int64 (Q,), pairs per query in the pool and in the dataset; queries without the latter are skipped.
        n: maximum number of queries.
    """
    order = np.lexsort((np.arange(len(pool)), -pool))
    order = order[held[order] > 0]
    if not len(order) or not n:
        return []
    ranks = np.unique(np.round(np.geomspace(1, len(order), n)).astype(np.int64)) - 1
    return [int(query) for query in order[ranks]]


def pictures(source: CardSource, found: Sequence[ShownSample], names: dict[int, str]) -> list[dict[str, Any]]:
    """Return what the page shows per sample, in the order of `found`; each shard is read once."""
    shown: dict[int, dict[str, Any]] = {}
    by_shard: dict[str, list[int]] = {}
    for at, sample in enumerate(found):
        by_shard.setdefault(sample.shard.metadata.path, []).append(at)
    for places in by_shard.values():
        shard = found[places[0]].shard
        rows = sorted({found[at].row for at in places})
        table = source.metadata(shard, COLUMNS).take(pa.array(rows, pa.int64())).to_pylist()
        images = dict(zip(rows, source.images(shard, rows), strict=True))
        facts = dict(zip(rows, table, strict=True))
        for at in places:
            shown[at] = _picture(found[at], facts[found[at].row], images[found[at].row], names)
    return [shown[at] for at in range(len(found))]


def _picture(sample: ShownSample, row: dict[str, Any], image: bytes, names: dict[int, str]) -> dict[str, Any]:
    text = row["texts"][sample.text]
    return {
        "key": row["key"],
        "split": sample.shard.split,
        "query": sample.query,
        "image": picture_uri(image),
        "alt": clip(text, 120),
        "parts": marked(text, names.get(sample.query, "")),
        "more": len(row["texts"]) - 1,
        "url": row["url"],
        "page_url": row["page_urls"][sample.text],
        "license": row["licenses"][sample.text],
        "text": clip(text),
    }

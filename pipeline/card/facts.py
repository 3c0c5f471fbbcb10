"""The numbers of a card, gathered from a dataset folder alone; memory is bounded by one shard's metadata."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.candidates.yields import yields
from pipeline.web.urls import host_of
from schemas.manifest import DatasetManifest
from schemas.queries import QUERY_COUNTS

_COLUMNS = [
    "url",
    "texts",
    "text_sources",
    "languages",
    "width",
    "height",
    "original_format",
    "duplicates",
    "licenses",
]
_TOP = 12
_LENGTH_EDGES = (0, 10, 20, 30, 40, 60, 80, 120, 200, 400)
_SIDE_EDGES = (0, 64, 128, 192, 256, 384, 512, 1024)
QUERIES_FILE = "queries.parquet"


def gather(folder: Path, manifest: DatasetManifest) -> dict[str, Any]:
    """Facts of a dataset, ready for JSON."""
    counters = {name: Counter[str]() for name in ("hosts", "languages", "text_sources", "formats", "licenses")}
    lengths, sides = np.zeros(len(_LENGTH_EDGES), np.int64), np.zeros(len(_SIDE_EDGES), np.int64)
    duplicates = 0
    for shard in manifest.shards:
        table = pq.read_table(folder / shard.metadata.path, columns=_COLUMNS)
        texts = pc.list_flatten(table.column("texts"))
        counters["hosts"].update(host_of(url) or "(bytes in a table)" for url in table.column("url").to_pylist())
        counters["languages"].update(language or "(not asked)" for language in _flat(table, "languages"))
        counters["text_sources"].update(source or "" for source in _flat(table, "text_sources"))
        counters["licenses"].update(link or "(none stated)" for link in _flat(table, "licenses"))
        counters["formats"].update(table.column("original_format").to_pylist())
        lengths += _histogram(pc.utf8_length(texts).to_numpy(), _LENGTH_EDGES)
        short = np.minimum(table.column("width").to_numpy(), table.column("height").to_numpy())
        sides += _histogram(short, _SIDE_EDGES)
        duplicates += int(pc.sum(table.column("duplicates")).as_py() or 0)
    return {
        "name": manifest.name,
        "splits": {
            split: {
                "samples": manifest.samples(split),
                "pairs": sum(shard.pairs for shard in manifest.shards_of(split)),
                "shards": len(manifest.shards_of(split)),
                "bytes": sum(shard.tar.bytes for shard in manifest.shards_of(split)),
            }
            for split in manifest.splits()
        },
        "funnel": [step.model_dump() for step in manifest.funnel],
        "duplicates_removed": duplicates,
        "text_length": _labelled(lengths, _LENGTH_EDGES),
        "short_side": _labelled(sides, _SIDE_EDGES),
        **{name: _top(counter) for name, counter in counters.items()},
        "queries": query_facts(folder),
        "query_sources": manifest.notes.get("queries", {}).get("by_source", {}),
        "titles_ranked_by": manifest.notes.get("queries", {}).get("titles_ranked_by", ""),
        "yields": [line._asdict() for line in yields(manifest.notes.get("candidates", {}))],
        "damage": manifest.notes.get("candidates", {}).get("damage", {}),
        "notes": manifest.notes,
        "recipe": manifest.recipe,
        "tools": manifest.tools,
    }


def query_facts(folder: Path) -> dict[str, Any]:
    """What the balance did: sums, and the queries with the most pairs. Empty where the dataset carries no list."""
    path = folder / QUERIES_FILE
    if not path.exists():
        return {}
    table = QUERY_COUNTS.read(path)
    pool = table.column("pool").to_numpy()
    order = np.lexsort((np.arange(len(pool)), -pool))[:_TOP]
    top = table.take(pa.array(order)).select(["query", "source", "pool", "drawn", "kept"]).to_pylist()
    return {
        "total": len(pool),
        "with_pairs": int((pool > 0).sum()),
        "limited": int((table.column("drawn").to_numpy() < pool).sum()),
        "top": top,
    }


def curve(folder: Path) -> dict[str, np.ndarray] | None:
    """Pairs a query by rank, before and after the balance: the paper's head and tail. None without a query list."""
    path = folder / QUERIES_FILE
    if not path.exists():
        return None
    table = QUERY_COUNTS.read(path)
    return {
        name: np.sort(table.column(column).to_numpy())[::-1]
        for name, column in (("before", "pool"), ("drawn", "drawn"), ("after", "kept"))
    }


def _flat(table: pa.Table, column: str) -> list[str | None]:
    values: list[str | None] = pc.list_flatten(table.column(column)).to_pylist()
    return values


def _histogram(values: np.ndarray, edges: tuple[int, ...]) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, values, side="right") - 1, minlength=len(edges)).astype(np.int64)


def _labelled(counts: np.ndarray, edges: tuple[int, ...]) -> list[dict[str, Any]]:
    labels = [f"{a}–{b - 1}" for a, b in pairwise(edges)] + [f"{edges[-1]}+"]
    return [{"label": label, "n": int(n)} for label, n in zip(labels, counts, strict=True)]


def _top(counter: Counter[str]) -> list[dict[str, Any]]:
    ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    top = [{"label": label, "n": n} for label, n in ranked[:_TOP]]
    rest = sum(n for _, n in ranked[_TOP:])
    return [*top, {"label": f"{len(ranked) - _TOP} others", "n": rest}] if rest else top

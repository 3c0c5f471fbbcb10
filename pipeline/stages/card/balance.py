"""Compute how the balance changed the queries: the paper's head and tail, before and after."""

from typing import Any

import numpy as np
import pyarrow as pa

_POINTS = 160


def query_facts(table: pa.Table, held: np.ndarray, top: int) -> dict[str, Any]:
    """Return totals, the head's share before and after, the curve, and the queries with the most pairs.

    Args:
        table: of `schemas.tables.queries.QUERY_COUNTS`. Its `kept` counts what the selection kept, before download and
            deduplication.
        held: int64 (Q,), texts of the dataset that match each query.
        top: number of queries listed.
    """
    pool, drawn = (table.column(name).to_numpy() for name in ("pool", "drawn"))
    series = {"before": pool, "drawn": drawn, "after": held}
    limited = drawn < pool
    order = np.lexsort((np.arange(len(pool)), -pool))[:top]
    listed = table.take(pa.array(order)).select(["query", "source", "pool", "drawn", "kept"])
    rows = listed.append_column("held", pa.array(held[order])).to_pylist()
    return {
        "total": len(pool),
        "with_pairs": int((pool > 0).sum()),
        "with_texts_held": int((held > 0).sum()),
        "limited": int(limited.sum()),
        "matches": {name: int(counts.sum()) for name, counts in series.items()},
        "head_share": {name: _share(series[name], limited) for name in ("before", "after")},
        "curve": {name: curve(counts) for name, counts in series.items()},
        "lower_cap": _lower_cap(pool),
        "top": [row for row in rows if row["pool"]],
    }


def _lower_cap(pool: np.ndarray) -> dict[str, int]:
    """Return a cap that limits the most frequent twentieth of the queries with pairs, and what it would draw.

    Empty if these have no more pairs than the others.
    """
    ranked = np.sort(pool[pool > 0])[::-1]
    if not len(ranked):
        return {}
    cap = int(ranked[min(len(ranked) - 1, -(-len(ranked) // 20))])
    limited = int((ranked > cap).sum())
    return {"cap": cap, "limited": limited, "drawn": int(np.minimum(ranked, cap).sum())} if limited else {}


def curve(counts: np.ndarray) -> list[list[int]]:
    """Return [rank, pairs] of queries by falling number of pairs, at some hundred ranks evenly spaced on a log scale.

    Queries without pairs are omitted.
    """
    ranked = np.sort(counts[counts > 0])[::-1]
    if not len(ranked):
        return []
    ranks = np.unique(np.round(np.geomspace(1, len(ranked), _POINTS)).astype(np.int64))
    return [[int(rank), int(ranked[rank - 1])] for rank in ranks]


def _share(counts: np.ndarray, part: np.ndarray) -> float:
    total = int(counts.sum())
    return round(int(counts[part].sum()) / total, 4) if total else 0.0

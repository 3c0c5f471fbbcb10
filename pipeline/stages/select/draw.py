"""Apply the thresholds: which pairs are kept, which queries selected them, and how close the others came."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from openwit.pipeline.stages.select.balance import list_column


@dataclass(frozen=True)
class DrawResult:
    """The verdict on N rows.

    Args:
        kept: bool (N,).
        drawn_by: int32 list array (N,), the queries that drew each row, ascending.
        priority: float64 (N,), min over the row's queries of u / threshold; inf if it has none.
        nearest: int64 (N,), the query of that minimum, -1 if it has none.
    """

    kept: np.ndarray
    drawn_by: pa.ListArray
    priority: np.ndarray
    nearest: np.ndarray


def keep_drawn(rows: np.ndarray, ids: np.ndarray, *, u: np.ndarray, thresholds: np.ndarray, n: int) -> DrawResult:
    """Keep a row when u(x, q) <= threshold_q for any of its queries.

    Args:
        rows: int64 (M,), ascending: the row of each (row, query).
        ids: int32 (M,), its query, ascending within a row.
        u: float64 (M,).
        thresholds: float64 (Q,).
        n: number of rows.
    """
    with np.errstate(divide="ignore"):
        ratio = u / thresholds[ids]
    drawn = u <= thresholds[ids]
    priority = np.full(n, np.inf)
    nearest = np.full(n, -1, np.int64)
    if len(rows):
        starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
        least = np.minimum.reduceat(ratio, starts)
        priority[rows[starts]] = least
        # Of several nearest queries, the first: the one with the smallest id.
        at_least = np.flatnonzero(ratio == np.repeat(least, np.diff(np.r_[starts, len(rows)])))
        first = at_least[np.r_[True, rows[at_least][1:] != rows[at_least][:-1]]]
        nearest[rows[first]] = ids[first]
    kept = np.zeros(n, bool)
    kept[rows[drawn]] = True
    return DrawResult(kept, list_column(rows[drawn], ids[drawn], n), priority, nearest)

"""Balance: decide which pairs each query draws (paper section 2.2: "up to 20,000 pairs per query").

`cap` draws, for each query, the `cap` pairs with the smallest u(x, q): exact. `probabilistic` is MetaCLIP's rule
(arXiv 2309.16671, section 3.4): each query draws a pair with probability t / max(N_q, t). Under both a pair is kept
when any of its queries drew it, so a query's final count may exceed its cap through its neighbours.
"""

import numpy as np
import pyarrow as pa

# How far the bound is above the expected cap-th smallest value, in standard deviations of its count: a query with
# more than cap matches sends fewer than cap below the bound with a probability of about 1e-9; it is then retried.
_SIGMAS = 6.0


def send_bounds(pool: np.ndarray, cap: int, *, widen: float = 1.0) -> np.ndarray:
    """Return an upper bound on u below which a query's cap smallest values almost surely lie.

    Args:
        pool: int64 (Q,), N_q.
        cap: maximum number of pairs per query.
        widen: factor on the bound for queries that sent too few.

    Returns:
        float64 (Q,) in (0, 1]; 1 if the query has at most `cap` matches.
    """
    expected = (cap + _SIGMAS * np.sqrt(cap)) / np.maximum(pool, 1)
    bounds: np.ndarray = np.where(pool <= cap, 1.0, np.minimum(widen * expected, 1.0))
    return bounds


def probabilistic_thresholds(pool: np.ndarray, t: int) -> np.ndarray:
    """Return the threshold on u of each query under `probabilistic`: t / max(N_q, t), float64 (Q,).

    Args:
        pool: int64 (Q,), N_q.
        t: maximum number of pairs per query, in expectation.
    """
    thresholds: np.ndarray = t / np.maximum(pool, max(t, 1)).astype(np.float64)
    return thresholds


def cap_smallest(query_ids: np.ndarray, u: np.ndarray, cap: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cap-th smallest u of each query among the values sent.

    Args:
        query_ids: int32 (M,), the query of each value.
        u: float64 (M,), in (0, 1].
        cap: maximum number of pairs per query, at least 1.

    Returns:
        (ids, thresholds, sent): each query once, the u of its cap-th smallest (or its largest, when it sent fewer),
        and how many it sent.
    """
    order = np.lexsort((u, query_ids))
    ids, starts, sent = np.unique(query_ids[order], return_index=True, return_counts=True)
    last = starts + np.minimum(sent, cap) - 1
    return ids, u[order][last], sent


def ragged(lists: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Return a list column as (row, value) arrays: int64 (M,) row numbers and the flat values (M,)."""
    lengths = np.diff(lists.offsets.to_numpy())
    rows = np.repeat(np.arange(len(lists)), lengths)
    return rows, lists.flatten().to_numpy()


def list_column(rows: np.ndarray, values: np.ndarray, n: int) -> pa.ListArray:
    """Build the inverse of `ragged`: rows must ascend. Int32 list array (n,)."""
    offsets = np.zeros(n + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=n), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.astype(np.int32)))

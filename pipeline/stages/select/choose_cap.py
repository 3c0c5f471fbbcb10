"""Choose t, the maximum number of pairs per query, from a target size or from the tail's share of the matches.

Both are solved on the counts of the queries; a target also needs a sample of pairs, because a pair that several
queries draw is kept once.
"""

import numpy as np


def tail_share(pool: np.ndarray, t: int) -> float:
    """Return the share of all matches that belong to queries with fewer than t: what the balance does not change.

    MetaCLIP 2 (arXiv 2507.22062, section 3.2) carries this share of English at t = 20,000 over to other languages.

    Args:
        pool: int64 (Q,), N_q.
        t: maximum number of pairs per query.
    """
    total = int(pool.sum())
    return int(pool[pool < t].sum()) / total if total else 0.0


def cap_for_tail_share(pool: np.ndarray, share: float) -> int:
    """Return the t at which the queries below it hold the given share of all matches: the inverse of `tail_share`.

    Args:
        pool: int64 (Q,), N_q.
        share: in (0, 1).

    Returns:
        The smallest count of a query such that the queries up to it reach the share; at least 1.
    """
    counts = np.sort(pool[pool > 0])
    if not len(counts):
        return 1
    reached = np.cumsum(counts)
    place = int(np.searchsorted(reached, share * reached[-1]))
    return max(1, int(counts[min(place, len(counts) - 1)]))


def expected_pairs(pool: np.ndarray, offsets: np.ndarray, *, ids: np.ndarray, t: int) -> float:
    """Return the expected number of sampled pairs that are kept: the sum of 1 - prod(1 - min(1, t / N_q)).

    Args:
        pool: int64 (Q,), N_q of the whole pool.
        offsets: int64 (S + 1,), where each sampled pair's queries begin in `ids`; every pair has one at least.
        ids: int32 (M,), the queries of the sampled pairs.
        t: maximum number of pairs per query.
    """
    if len(offsets) <= 1:
        return 0.0
    with np.errstate(divide="ignore"):
        left_out = np.log1p(-np.minimum(t / np.maximum(pool, 1), 1.0))
    log_product = np.add.reduceat(left_out[ids], offsets[:-1])
    return float(-np.expm1(log_product).sum())


def cap_for_target_pairs(pool: np.ndarray, offsets: np.ndarray, *, ids: np.ndarray, target: float) -> int:
    """Return the smallest t at which at least `target` sampled pairs are kept in expectation, or the largest N_q.

    Args:
        pool, offsets, ids: as for `expected_pairs`.
        target: pairs of the sample that are wanted.
    """
    low, high = 1, max(1, int(pool.max(initial=1)))
    while low < high:
        middle = (low + high) // 2
        if expected_pairs(pool, offsets, ids=ids, t=middle) >= target:
            high = middle
        else:
            low = middle + 1
    return low

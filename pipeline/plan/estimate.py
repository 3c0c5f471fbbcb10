"""Extrapolate a sample to the whole: ranges of candidates, pairs, images, bytes and hours. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openwit.pipeline.stages.select.choose_cap import cap_for_tail_share, expected_pairs
from openwit.pipeline.stages.select.settings import SelectSettings

# Standard normal quantile of a two-sided 90 % range.
_Z = 1.645
# Factor either way where one slice tells nothing of the spread between files.
_ONE_SLICE = 1.5


@dataclass(frozen=True)
class Range:
    """An estimate: what is expected, and between what it probably is."""

    low: float
    mid: float
    high: float

    def __mul__(self, factor: float) -> "Range":
        return Range(self.low * factor, self.mid * factor, self.high * factor)

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.mid + other.mid, self.high + other.high)

    def widened(self, factor: float) -> "Range":
        """Return the range wider by a factor on both sides."""
        return Range(self.low / factor, self.mid, self.high * factor)


ZERO = Range(0.0, 0.0, 0.0)


def total_of(counts: Sequence[float], sizes: Sequence[float], whole: float) -> Range:
    """Return the total of a count over inputs of `whole` bytes, from slices of them (a ratio estimator).

    Args:
        counts: what each slice gave.
        sizes: bytes that each slice stands for.
        whole: bytes of all inputs of the kind.
    """
    read = sum(sizes)
    if read <= 0:
        return ZERO
    scale = max(1.0, whole / read)
    mid = scale * sum(counts)
    unread = 1.0 - 1.0 / scale
    if unread == 0.0:
        return Range(mid, mid, mid)
    if len(counts) < 2:
        factor = 1.0 + (_ONE_SLICE - 1.0) * unread
        return Range(max(mid / factor, float(sum(counts))), mid, mid * factor)
    ratio = sum(counts) / read
    spread = sum((count - ratio * size) ** 2 for count, size in zip(counts, sizes, strict=True))
    # Few slices underestimate their spread: Student's t is 6.3 for two of them, 1.7 for thirty.
    student = _Z * (1.0 + 2.85 / (len(counts) - 1) ** 1.35)
    error = student * scale * np.sqrt(unread * len(counts) / (len(counts) - 1) * spread)
    # Counts of their own vary too.
    error = float(np.hypot(error, _Z * scale * np.sqrt(unread * max(sum(counts), 1.0))))
    return Range(max(float(sum(counts)), mid - error, mid / 4), mid, mid + error)


def poisson_range(counts: np.ndarray, unread: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a 90 % range of the expected counts behind observed ones (Byar's approximation), float64 each.

    Args:
        counts: observed.
        unread: share of the whole that was not observed: 0 makes the range exact.
    """
    n = np.maximum(counts.astype(np.float64), 1e-9)
    low = n * np.maximum(0.0, 1 - 1 / (9 * n) - _Z / (3 * np.sqrt(n))) ** 3
    more = n + 1
    high = more * (1 - 1 / (9 * more) + _Z / (3 * np.sqrt(more))) ** 3
    shrink = np.sqrt(unread)
    return n - (n - low) * shrink, n + (high - n) * shrink


@dataclass(frozen=True)
class PairEstimate:
    """What a selection would keep.

    Attributes:
        matches: of captions with queries, N_q summed.
        pool: pairs that match, each once.
        cap: t, set or chosen.
        pairs: that are kept.
        over_cap: queries seen that have more than t matches.
        queries_seen: queries that any sampled caption matches.
    """

    matches: float
    pool: float
    cap: int
    pairs: Range
    over_cap: int
    queries_seen: int


def pairs_of(
    settings: SelectSettings, queries: int, offsets: np.ndarray, *, ids: np.ndarray, weights: np.ndarray
) -> PairEstimate:
    """Return what a selection would keep of the whole, from the matches of a sample.

    A query that draws at most t of its N_q pairs keeps each with probability t / N_q: the sum of
    `choose_cap.expected_pairs`, with N_q extrapolated from the sample.

    Args:
        settings: of select.
        queries: number of queries.
        offsets, ids: the queries of each sampled pair.
        weights: float64 (N,), pairs of the whole that each sampled pair stands for.
    """
    counts = np.bincount(ids, minlength=queries).astype(np.float64)
    lengths = np.diff(offsets)
    pool = np.bincount(ids, weights=np.repeat(weights, lengths), minlength=queries)
    mean = pool / np.maximum(counts, 1)
    low, high = poisson_range(counts, float(1 - len(weights) / max(weights.sum(), 1.0)))
    cap = _cap(settings, pool, offsets, ids=ids, weights=weights)
    drawn = round(cap * settings.oversample)
    # Fewer matches in truth than it seems: a larger share of them is drawn.
    kept = [_expected(np.maximum(each * mean, 1.0), offsets, ids, weights, drawn) for each in (high, counts, low)]
    pairs = Range(min(kept), kept[1], max(kept))
    return PairEstimate(
        float(pool.sum()), float(weights.sum()), cap, pairs, int((pool > drawn).sum()), int((counts > 0).sum())
    )


def _expected(pool: np.ndarray, offsets: np.ndarray, ids: np.ndarray, weights: np.ndarray, cap: int) -> float:
    """Return the expected pairs of the whole: those of each weight are summed alike."""
    total = 0.0
    for weight in np.unique(weights):
        rows = np.flatnonzero(weights == weight)
        lengths = np.diff(offsets)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        at = np.repeat(offsets[:-1][rows] - starts[:-1], lengths) + np.arange(starts[-1])
        total += float(weight) * expected_pairs(pool, starts, ids=ids[at], t=cap)
    return total


def _cap(
    settings: SelectSettings, pool: np.ndarray, offsets: np.ndarray, *, ids: np.ndarray, weights: np.ndarray
) -> int:
    if settings.tail_share is not None:
        return cap_for_tail_share(np.rint(pool).astype(np.int64), settings.tail_share)
    if settings.target_pairs is None:
        return settings.cap
    low, high = 1, max(1, int(pool.max(initial=1)))
    while low < high:
        middle = (low + high) // 2
        if _expected(pool, offsets, ids, weights, middle) >= settings.target_pairs:
            high = middle
        else:
            low = middle + 1
    return low

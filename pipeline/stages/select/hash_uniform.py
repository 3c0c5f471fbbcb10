"""Draw random numbers by hash: u(pair, query) is uniform on (0, 1] and depends on seed, pair and query only.

So the result of a draw is the same on any runner, in any order, split into any files; draws with a larger cap only
add; and a changed query list changes only what it must, because the query's text is hashed, not its number.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import xxhash

from openwit.schemas.common.hashing import splitmix64

_SCALE = 2.0**-53


def query_hashes(queries: Sequence[str]) -> np.ndarray:
    """Return xxh3-64 of each query's text: uint64 (Q,)."""
    return np.fromiter((xxhash.xxh3_64_intdigest(q.encode()) for q in queries), np.uint64, len(queries))


def pair_hashes(pair_ids: pa.Array) -> np.ndarray:
    """Fold 128-bit pair ids, fixed-size binary (N,), to 64 bits: uint64 (N,)."""
    width = 16
    start = pair_ids.offset * width
    data = np.frombuffer(pair_ids.buffers()[1], np.uint64)[start // 8 : start // 8 + 2 * len(pair_ids)]
    halves = data.reshape(-1, 2)
    folded: np.ndarray = halves[:, 0] ^ mix(halves[:, 1])
    return folded


def mix(values: np.ndarray) -> np.ndarray:
    """Apply the finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection on uint64 that scatters every bit."""
    mixed: np.ndarray = splitmix64(values)
    return mixed


def uniform(pairs: np.ndarray, queries: np.ndarray, *, seed: int) -> np.ndarray:
    """Return u(x, q) for aligned pair and query hashes.

    Args:
        pairs: uint64 (M,), from `pair_hashes`.
        queries: uint64 (M,), from `query_hashes`.
        seed: the recipe's seed.

    Returns:
        float64 (M,) in (0, 1], multiples of 2^-53.
    """
    start = np.uint64(seed % 2**64)
    bits = mix(mix(pairs ^ mix(np.asarray(start))) ^ queries)
    u: np.ndarray = ((bits >> np.uint64(11)).astype(np.float64) + 1.0) * _SCALE
    return u

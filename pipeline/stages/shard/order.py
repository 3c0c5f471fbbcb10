"""Shuffle globally by hash: the position of a sample depends on the seed and its URL, not on earlier samples."""

from collections.abc import Sequence

import numpy as np
import xxhash


def sample_hashes(urls: Sequence[str], seed: int) -> np.ndarray:
    """Place of each sample in the shuffled dataset: uint64 (N,), ascending order is dataset order."""
    return np.fromiter((xxhash.xxh3_64_intdigest(url.encode(), seed=seed) for url in urls), np.uint64, len(urls))


def shard_of(hashes: np.ndarray, shards: int) -> np.ndarray:
    """Return which of `shards` equal ranges of the hash each sample falls into: int64 (N,).

    Shards differ in size as a binomial count does, about 1 % for 10,000 samples.
    """
    # The upper 32 bits are enough for up to millions of shards without overflow.
    upper = (hashes >> np.uint64(32)).astype(np.uint64)
    numbers: np.ndarray = (upper * np.uint64(shards) >> np.uint64(32)).astype(np.int64)
    return numbers


def shard_count(samples: int, per_shard: int) -> int:
    """Return the number of shards for about `per_shard` samples each; none for none."""
    return 0 if samples == 0 else max(1, round(samples / per_shard))

"""Order the samples of many shards so that few shards are needed at once.

The shards come in a pseudo-random order that each epoch draws anew; blocks of k shards follow each other, and samples
are shuffled within a block. Every sample comes once per epoch, and each position is computed from its number alone, so
the order is the same for every number of processes and after every resumption.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openwit.training.data.sampling import Shuffle


class _Layout(NamedTuple):
    """Order of the shards in an epoch, the place of each shard in it, and where each block of samples ends."""

    shards: NDArray[np.int64]
    places: NDArray[np.int64]
    ends: NDArray[np.int64]


class BlockShuffle:
    """Samples shuffled within blocks of shards.

    Args:
        counts: samples of each shard; sample numbers continue from one to the next.
        seed: of the permutations.
        name: different names give different permutations.
        shards: shards in a block.
    """

    def __init__(self, counts: Sequence[int], seed: int, name: str = "", *, shards: int) -> None:
        self._counts = np.asarray(counts, np.int64)
        self._firsts = np.concatenate(([0], np.cumsum(self._counts)[:-1]))
        self._seed, self._name, self._width = seed, name, shards
        self._order = Shuffle(len(counts), seed, f"{name}/shards")
        self._layout = lru_cache(maxsize=4)(self._layout_of)

    def __reduce__(self) -> tuple[Any, ...]:
        return _order, (self._counts, self._seed, self._name, self._width)

    @property
    def blocks(self) -> int:
        """Number of blocks in an epoch."""
        return -(-len(self._counts) // self._width)

    def at(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the samples at these positions of an epoch."""
        ends = self._layout(epoch).ends
        blocks = np.searchsorted(ends, places, side="right")
        found = np.empty(len(places), np.int64)
        for block in np.unique(blocks).tolist():
            chosen = blocks == block
            first = int(ends[block - 1]) if block else 0
            shuffle = Shuffle(int(ends[block]) - first, self._seed, f"{self._name}/block {block}")
            within = shuffle.at(epoch, places[chosen] - first)
            shards = self.shards(epoch, block)
            stops = np.cumsum(self._counts[shards])
            which = np.searchsorted(stops, within, side="right")
            rows = within - (stops - self._counts[shards])[which]
            found[chosen] = self._firsts[shards[which]] + rows
        return found

    def shards(self, epoch: int, block: int) -> NDArray[np.int64]:
        """Return the shards of a block, in the order in which they are best fetched."""
        return self._layout(epoch).shards[block * self._width : (block + 1) * self._width]

    def block_of(self, epoch: int, shard: int) -> int:
        """Return the block of an epoch to which a shard belongs."""
        return int(self._layout(epoch).places[shard]) // self._width

    def _layout_of(self, epoch: int) -> _Layout:
        shards = self._order.at(epoch, np.arange(len(self._counts)))
        places = np.empty(len(shards), np.int64)
        places[shards] = np.arange(len(shards))
        ends = np.cumsum(self._counts[shards])
        last = np.minimum(np.arange(1, self.blocks + 1) * self._width, len(shards)) - 1
        return _Layout(shards, places, ends[last])


def _order(counts: NDArray[np.int64], seed: int, name: str, shards: int) -> BlockShuffle:
    return BlockShuffle(counts.tolist(), seed, name, shards=shards)


def largest_blocks(sizes: Sequence[int], shards: int, count: int = 2) -> int:
    """Return the most bytes that some blocks of shards can hold, whatever the order."""
    return sum(sorted(sizes, reverse=True)[: shards * count])

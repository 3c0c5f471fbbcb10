"""Chance in the data, a function of (seed, epoch, key): nothing to save, nothing that threads disturb."""

import random
import threading
from typing import Literal

import numpy as np
import xxhash
from numpy.typing import NDArray


class BatchPlan:
    """Which samples stand in which step.

    The stream of samples is one shuffled pass over the split after another; step k takes the next `batch_size` of it,
    across the border of two epochs where it falls there, so that each sample is seen exactly once an epoch. A run of
    a given number of samples ends exactly there, with a smaller last step if need be.

    Args:
        size: samples in the split.
        batch_size: samples in a step.
        seed: of the shuffles.
        total: length of the stream in samples; None where the clock ends the run.
    """

    def __init__(self, size: int, batch_size: int, seed: int, total: int | None) -> None:
        self._size = size
        self._batch_size = batch_size
        self._seed = seed
        self._total = total
        self._orders: dict[int, NDArray[np.int64]] = {}
        self._lock = threading.Lock()

    def batch(self, step: int) -> list[tuple[int, int]]:
        """(epoch, index) of each sample of a step, steps counted from 0; empty when the stream has ended."""
        start = step * self._batch_size
        stop = start + self._batch_size
        if self._total is not None:
            stop = min(stop, self._total)
        batch: list[tuple[int, int]] = []
        while start < stop:
            epoch, offset = divmod(start, self._size)
            here = self._order(epoch)[offset : offset + stop - start]
            batch.extend((epoch, int(index)) for index in here)
            start += len(here)
        return batch

    def _order(self, epoch: int) -> NDArray[np.int64]:
        with self._lock:
            if epoch not in self._orders:
                self._orders = {e: o for e, o in self._orders.items() if e >= epoch - 1}
                self._orders[epoch] = np.random.default_rng((self._seed, epoch)).permutation(self._size)
            return self._orders[epoch]


def sample_rng(seed: int, epoch: int, key: str) -> random.Random:
    """The generator of a sample's chance in an epoch: which text, which crop, whether to mirror."""
    return random.Random(xxhash.xxh3_64_intdigest(f"{epoch}/{key}".encode(), seed=seed))


def pick_text(texts: tuple[str, ...], how: Literal["random", "first"], rng: random.Random) -> str:
    """The text to train on this time."""
    return texts[0] if how == "first" else texts[min(len(texts) - 1, int(rng.random() * len(texts)))]


def step_seed(seed: int, step: int) -> int:
    """Seed of the model's chance (patch dropout) in a step."""
    return xxhash.xxh3_64_intdigest(f"step {step}".encode(), seed=seed) >> 1

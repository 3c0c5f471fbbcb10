"""Deterministic sampling: a pure function of (seed, epoch, key), so there is no generator state to save."""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import accumulate
from typing import Literal, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from openwit.schemas.common.hashing import splitmix64_finalise


def bounds(size: int, rank: int, world: int) -> tuple[int, int]:
    """Return (start, stop) of one of `world` contiguous parts of `size` items; their sizes differ by one at most."""
    return size * rank // world, size * (rank + 1) // world


_ROUNDS = 6


class Shuffle:
    """A permutation of `size` items for each epoch, any position of which is computed on its own.

    A Feistel cipher over the next power of four, iterated until the result is in range (Black and Rogaway, "Ciphers
    with arbitrary finite domains", 2002): a shuffle of 400 million samples needs no memory and no preparation.

    Args:
        size: number of items.
        seed: of the permutations.
        name: different names give different permutations.
    """

    def __init__(self, size: int, seed: int, name: str = "") -> None:
        self._size = size
        self._seed = seed
        self._name = name
        self._half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half)) - 1)

    def at(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the items at these positions (0 to size - 1) of an epoch's permutation."""
        keys = [
            np.uint64(xxhash.xxh3_64_intdigest(f"{self._name}/{epoch}/{number}".encode(), seed=self._seed))
            for number in range(_ROUNDS)
        ]
        values = self._encipher(places.astype(np.uint64), keys)
        outside = np.flatnonzero(values >= self._size)
        while len(outside):
            values[outside] = self._encipher(values[outside], keys)
            outside = outside[values[outside] >= self._size]
        return values.astype(np.int64)

    def _encipher(self, values: NDArray[np.uint64], keys: list[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._half, values & self._mask
        for key in keys:
            left, right = right, left ^ (splitmix64_finalise(right ^ key) & self._mask)
        return (left << self._half) | right


class Order(Protocol):
    """A permutation of the samples for each epoch."""

    def at(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the samples at these positions of an epoch."""
        ...


class Plan(Protocol):
    """Assigns samples to steps."""

    def batch(self, step: int) -> list[tuple[int, int]]:
        """Return (epoch, index) of each sample of a step, counted from 0; empty after the end of the stream."""
        ...

    def share(self, step: int, rank: int, world: int) -> tuple[list[tuple[int, int]], int]:
        """Return one process's part of a step, and the size of the whole step."""
        ...


class Stream(ABC):
    """A stream of samples cut into steps.

    Args:
        batch_size: samples in a step.
        total: length of the stream in samples; None if the clock ends the run.
    """

    def __init__(self, batch_size: int, total: int | None) -> None:
        self._batch_size = batch_size
        self._total = total

    def batch(self, step: int) -> list[tuple[int, int]]:
        """Return (epoch, index) of each sample of a step, counted from 0; empty after the end of the stream."""
        return self.share(step, 0, 1)[0]

    def share(self, step: int, rank: int, world: int) -> tuple[list[tuple[int, int]], int]:
        """Return one process's part of a step, and the size of the whole step.

        The parts of ranks 0 to world - 1, concatenated, are `batch(step)`; their sizes differ by one at most, and some
        are empty if the step holds fewer samples than there are processes.
        """
        begin = step * self._batch_size
        size = self._batch_size if self._total is None else max(0, min(self._batch_size, self._total - begin))
        start, stop = bounds(size, rank, world)
        return self._places(begin + start, begin + stop), size

    @abstractmethod
    def _places(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return (epoch, index) of the positions from `start` to before `stop` of the stream."""


class BatchPlan(Stream):
    """One shuffled pass over the split after another; a batch may span two epochs.

    Each sample is seen exactly once per epoch. A run of a given number of samples ends exactly there, with a
    smaller last step if necessary.

    Args:
        size: samples in the split.
        batch_size: samples in a step.
        seed: of the shuffles.
        total: length of the stream in samples; None if the clock ends the run.
        order: of the samples in each epoch; None shuffles all.
    """

    def __init__(self, size: int, batch_size: int, seed: int, total: int | None, order: Order | None = None) -> None:
        super().__init__(batch_size, total)
        self._size = size
        self._shuffle: Order = order or Shuffle(size, seed)

    def _places(self, start: int, stop: int) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        while start < stop:
            epoch, offset = divmod(start, self._size)
            here = min(stop - start, self._size - offset)
            order = self._shuffle.at(epoch, np.arange(offset, offset + here))
            places.extend((epoch, index) for index in order.tolist())
            start += here
        return places


def sample_rng(seed: int, epoch: int, key: str) -> random.Random:
    """Return the generator of a sample's random draws in an epoch: text, crop, mirroring."""
    return random.Random(xxhash.xxh3_64_intdigest(f"{epoch}/{key}".encode(), seed=seed))


def pick_by_source(
    texts: tuple[str, ...], sources: tuple[str, ...], weights: Mapping[str, float], others: float, rng: random.Random
) -> str:
    """Return the text to train on: a source is drawn by its weight among those the image has, then one of its texts.

    If no text has a source of any weight, as where none is known, all texts count alike.

    Args:
        texts: of the image.
        sources: where each was found; empty if that is not known.
        weights: of sources.
        others: weight of every other source.
        rng: of the sample.
    """
    held = dict.fromkeys(sources)
    shares = [weights.get(source, others) for source in held]
    if not sum(shares):
        return pick_text(texts, "random", rng)
    place = rng.random() * sum(shares)
    drawn = next((s for s, end in zip(held, accumulate(shares), strict=True) if place < end), list(held)[-1])
    fitting = tuple(text for text, source in zip(texts, sources, strict=True) if source == drawn)
    return pick_text(fitting, "random", rng)


def pick_text(texts: tuple[str, ...], how: Literal["random", "first"], rng: random.Random) -> str:
    """Return the text to train on."""
    return texts[0] if how == "first" else texts[min(len(texts) - 1, int(rng.random() * len(texts)))]

"""Mix several datasets into one stream, by weights. Each position of the stream is computed from its number alone."""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sampling import Order, Shuffle, Stream
from openwit.training.data.sharded import Dataset, Place, Reading, Sample, close_dataset

_SHORTEST_BLOCK = 1024


class Mixture:
    """Several datasets concatenated into one: sample numbers continue, and keys begin with `NAME/`.

    Args:
        parts: two datasets or more.
    """

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = list(parts)
        self.names = _names(parts)
        self._ends = list(accumulate(len(part) for part in parts))
        self.name = "+".join(self.names)
        self.split = parts[0].split if len({part.split for part in parts}) == 1 else "mixed"
        self.folder: Path = parts[0].folder
        sums = "\n".join(f"{part.manifest_sha256} {part.split}" for part in parts)
        self.manifest_sha256 = hashlib.sha256(sums.encode()).hexdigest()

    def __len__(self) -> int:
        return self._ends[-1]

    def key(self, index: int) -> str:
        """Return the name of the dataset, a slash, and the key of the sample in it."""
        number, within = self._locate(index)
        return f"{self.names[number]}/{self.parts[number].key(within)}"

    def sample(self, index: int) -> Sample:
        """Return a sample, its key prefixed with its dataset's name.

        Raises:
            CorruptSampleError: as the dataset raises it, with the prefixed key.
        """
        number, within = self._locate(index)
        return self._named(number, partial(self.parts[number].sample, within))

    def _named(self, number: int, read: Callable[[], Sample]) -> Sample:
        try:
            sample = read()
        except CorruptSampleError as error:
            raise CorruptSampleError(f"{self.names[number]}/{error.key}", error.reason) from error
        return sample._replace(key=f"{self.names[number]}/{sample.key}")

    @contextmanager
    def reading(self, places: Sequence[Place]) -> Iterator[Reading]:
        """Return a context in which the samples of a batch can be read, each dataset's in its own way."""
        located = {index: self._locate(index) for _, index in places}
        of_part: dict[int, list[Place]] = {}
        for epoch, index in places:
            number, within = located[index]
            of_part.setdefault(number, []).append((epoch, within))
        with ExitStack() as stack:
            # Those that are fetched begin first, all before any is waited for by a sample.
            reads = {number: stack.enter_context(self.parts[number].reading(here)) for number, here in of_part.items()}

            def read(index: int) -> Sample:
                number, within = located[index]
                return self._named(number, partial(reads[number], within))

            yield read

    def close(self) -> None:
        """End what runs beside."""
        for part in self.parts:
            close_dataset(part)

    def _locate(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._ends, index)
        if index < 0 or number == len(self._ends):
            raise IndexError(index)
        return number, index - (self._ends[number - 1] if number else 0)


def _names(parts: Sequence[Dataset]) -> list[str]:
    """Return a unique name for each, with the split and then a number added if necessary."""
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        names = [f"{part.name}/{part.split}" for part in parts]
    return [name if names.count(name) == 1 else f"{name}#{number}" for number, name in enumerate(names)]


class WeightedPlan(Stream):
    """Several datasets, each in its own shuffled epochs, interleaved by weight.

    Among the first p positions, a dataset of weight w (its share of all weights) has p w, to within 2: the counts at
    the ends of blocks are p w rounded, and inside a block Tijdeman's rule for the chairman assignment problem
    (Discrete Mathematics 32, 1980) keeps each count within 1 of its share. So a run may begin at any position.

    Args:
        sizes: samples of each dataset; sample numbers continue from one to the next.
        weights: positive, one per dataset.
        batch_size, seed, total: as for `BatchPlan`.
        orders: of each dataset's samples; None shuffles each as a whole.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float],
        batch_size: int,
        seed: int,
        total: int | None,
        orders: Sequence[Order | None] = (),
    ) -> None:
        super().__init__(batch_size, total)
        exact = [Fraction(str(weight)) for weight in weights]
        whole = sum(exact)
        self._until = [Fraction(0), *(share / whole for share in accumulate(exact))]
        # At least one of each in a block, so that no count ever decreases.
        self._block = max(_SHORTEST_BLOCK, int(whole / min(exact)) + 1)
        self._sizes = list(sizes)
        self._firsts = [0, *accumulate(sizes)][:-1]
        self._shuffles: list[Order] = [
            (orders[number] if orders else None) or Shuffle(size, seed, f"dataset {number}")
            for number, size in enumerate(sizes)
        ]
        self._pattern = lru_cache(maxsize=64)(_pattern)

    def _places(self, start: int, stop: int) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        while start < stop:
            block, offset = divmod(start, self._block)
            end = min(stop - block * self._block, self._block)
            places.extend(self._of_block(block, offset, end))
            start = block * self._block + end
        return places

    def _of_block(self, block: int, offset: int, end: int) -> list[tuple[int, int]]:
        before = self._counts(block)
        after = self._counts(block + 1)
        pattern = self._pattern(tuple(b - a for a, b in zip(before, after, strict=True)))
        here = pattern[offset:end]
        epochs = np.empty(len(here), np.int64)
        indices = np.empty(len(here), np.int64)
        for number, size in enumerate(self._sizes):
            chosen = here == number
            first = before[number] + int((pattern[:offset] == number).sum())
            order = np.arange(first, first + int(chosen.sum()))
            epochs[chosen] = order // size
            found = np.empty(len(order), np.int64)
            for epoch in np.unique(order // size).tolist():
                of_epoch = order // size == epoch
                found[of_epoch] = self._shuffles[number].at(epoch, order[of_epoch] % size)
            indices[chosen] = found + self._firsts[number]
        return list(zip(epochs.tolist(), indices.tolist(), strict=True))

    def _counts(self, block: int) -> list[int]:
        """Return the samples of each dataset before a block: differences of the rounded running sums of the shares."""
        place = block * self._block
        ends = [int(place * share + Fraction(1, 2)) for share in self._until]
        return [b - a for a, b in pairwise(ends)]


def _pattern(counts: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the dataset at each position of a block that holds `counts` of each.

    Tijdeman's rule: among the datasets that one more sample would not put ahead of their share by 1 - 1/(2K - 2) or
    more, take the one that would be the first to fall behind by as much.
    """
    length, kinds = sum(counts), len(counts)
    slack = 1 - 1 / (2 * kinds - 2) if kinds > 1 else 0.0
    shares = [count / length for count in counts]
    held = [0] * kinds
    pattern = np.empty(length, np.int64)
    for place in range(length):
        best, soonest = -1, float("inf")
        for kind in range(kinds):
            if held[kind] == counts[kind]:
                continue
            if shares[kind] * (place + 1) - held[kind] < 1 - slack - 1e-9:
                continue
            due = (held[kind] + slack) / shares[kind]
            if due < soonest:
                best, soonest = kind, due
        if best < 0:
            # Reached by rounding of floats only: take the one furthest behind.
            best = max(range(kinds), key=lambda kind: shares[kind] * (place + 1) - held[kind])
        held[best] += 1
        pattern[place] = best
    return pattern

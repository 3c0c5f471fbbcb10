"""Batches by step number, prefetched by threads. Any step can be prepared at any time, so resuming costs nothing."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.training.config import DataSettings
from openwit.training.config.zoo import InputSpec
from openwit.training.data.preparation import IMAGE_ERRORS, Prepared, SampleMaker, training_transform
from openwit.training.data.sampling import Plan
from openwit.training.data.sharded import Dataset, Reading, Sample, close_dataset
from openwit.training.data.worker_pool import WorkerPool
from openwit.training.tokenizer.bpe import Tokenizer

__all__ = ["IMAGE_ERRORS", "Batch", "BatchMaker", "CorruptCount", "Loader", "Preparation", "training_transform"]


@dataclass(frozen=True)
class Batch:
    """One process's input to a step.

    `seen` is the number of samples of the step over all processes, unreadable ones included. The part of a process may
    be empty, if a step has fewer samples than there are processes or all are unreadable.
    """

    images: torch.Tensor  # uint8 (B, H, W, 3), in memory plane after plane: a permuted view of (B, 3, H, W)
    tokens: torch.Tensor  # int64 (B, L), trimmed to the longest text
    keys: list[str]
    seen: int
    corrupt: dict[str, str] = field(default_factory=dict)  # key: reason
    repaired: int = 0  # samples whose JSON member was not valid, and was repaired or passed over
    rows: list[int] | None = None  # places of the samples among those planned, if some are missing


@dataclass(frozen=True)
class Preparation:
    """Turns samples into batches, whatever they were read from.

    Args:
        settings: captions and augmentation.
        inputs: image size and context length.
        tokenizer: texts to ids.
        seed: of captions and crops.
        pinned: put batches into page-locked memory, from which copies to a GPU are asynchronous.
    """

    settings: DataSettings
    _: KW_ONLY
    inputs: InputSpec
    tokenizer: Tokenizer
    seed: int
    pinned: bool = False

    @cached_property
    def maker(self) -> SampleMaker:
        """What makes arrays of samples."""
        return SampleMaker(self.settings, inputs=self.inputs, tokenizer=self.tokenizer, seed=self.seed)

    def batch(self, samples: Sequence[Callable[[], tuple[int, Sample]]], seen: int, corrupt: dict[str, str]) -> Batch:
        """Return a batch of samples without those that cannot be read.

        Args:
            samples: each returns (epoch, sample), or raises CorruptSampleError.
            seen: see `Batch`.
            corrupt: samples already known to be unreadable.
        """
        return self.batch_of(len(samples), seen, lambda images: self.maker.make(samples, images, corrupt))

    def batch_of(self, samples: int, seen: int, make: Callable[[NDArray[np.uint8]], Prepared]) -> Batch:
        """Return a batch of at most `samples` samples, whose images `make` writes."""
        memory = torch.empty(self.maker.shape(samples), dtype=torch.uint8, pin_memory=self.pinned)
        keys, ids, corrupt, repaired, rows = make(memory.numpy())
        tokens = torch.from_numpy(ids)
        tokens = tokens.pin_memory() if self.pinned else tokens
        return Batch(memory[: len(keys)].permute(0, 2, 3, 1), tokens, keys, seen, corrupt, repaired, rows)


class BatchMaker:
    """Prepares the batch of any step.

    Args:
        dataset: the samples.
        plan: assigns samples to steps.
        settings: captions and augmentation.
        inputs: image size and context length.
        tokenizer: texts to ids.
        seed: of captions and crops.
        rank, world: number of this process, and number of processes; each prepares a contiguous part of every batch,
            in rank order.
        pinned: see `Preparation`.
        processes: number of processes that make the batches, for threads that wait for them; 0: the threads do.

    Raises:
        ValueError: `rank` is not a number from 0 to `world` - 1.
    """

    def __init__(
        self,
        dataset: Dataset,
        plan: Plan,
        *,
        settings: DataSettings,
        inputs: InputSpec,
        tokenizer: Tokenizer,
        seed: int,
        rank: int = 0,
        world: int = 1,
        pinned: bool = False,
        processes: int = 0,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes")
        self._rank, self._world = rank, world
        self._dataset = dataset
        self._plan = plan
        self._preparation = Preparation(settings, inputs=inputs, tokenizer=tokenizer, seed=seed, pinned=pinned)
        self.pool = WorkerPool(self._preparation.maker, dataset, processes) if processes else None

    def make(self, step: int) -> Batch | None:
        """Return this process's part of a step's batch without unreadable samples; None after the end of the stream.

        The stream ends at the same step in every process.
        """
        places, seen = self._plan.share(step, self._rank, self._world)
        if not seen:
            return None
        return self._batch(places, seen)

    def parts(self, step: int, size: int) -> list[Callable[[], Batch]]:
        """Return functions that each prepare a part of this process's part of a step; none after the stream's end.

        Args:
            step: counted from 0.
            size: samples in each but the last. There is at least one part, which may be empty.
        """
        places, seen = self._plan.share(step, self._rank, self._world)
        if not seen:
            return []
        return [partial(self._batch, places[at : at + size], seen) for at in range(0, max(1, len(places)), size)]

    def _batch(self, places: list[tuple[int, int]], seen: int) -> Batch:
        pool = self.pool
        if pool is not None:
            return self._preparation.batch_of(len(places), seen, lambda images: pool.make(places, images))
        with self._dataset.reading(places) as read:
            return self._preparation.batch([partial(_read, read, *place) for place in places], seen, {})

    def close(self) -> None:
        """End what the dataset runs beside, and the processes."""
        if self.pool is not None:
            self.pool.close()
        close_dataset(self._dataset)


def _read(read: Reading, epoch: int, index: int) -> tuple[int, Sample]:
    return epoch, read(index)


class Loader:
    """Batches from a step onward, in order, prefetched.

    Threads, unless `data.workers_in` says otherwise: decoding and resizing release Python's global lock, and a batch
    need not be copied between processes. Use as a context manager, so that the threads end with the block.

    Args:
        maker: prepares the batch of a step.
        start: first step.
        workers: number of threads; 0 prepares each batch on demand.
        prefetch: number of batches in preparation or ready.
    """

    def __init__(self, maker: BatchMaker, start: int, *, workers: int, prefetch: int) -> None:
        self._maker = maker
        self._next = start
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader") if workers else None
        self._ahead = max(prefetch, workers)
        self._pending: deque[Future[Batch | None]] = deque()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._maker.close()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = self._make()
        if batch is None:
            raise StopIteration
        return batch

    def _make(self) -> Batch | None:
        if self._pool is None:
            self._next += 1
            return self._maker.make(self._next - 1)
        while len(self._pending) < self._ahead:
            self._pending.append(self._pool.submit(self._maker.make, self._next))
            self._next += 1
        return self._pending.popleft().result()


class CorruptCount:
    """Records unreadable samples and stops the run when there are too many.

    Args:
        size: samples in the split.
        share: of them that may be unreadable.
        known: keys found earlier in this run.
    """

    def __init__(self, size: int, share: float, known: list[str]) -> None:
        self._allowed = int(size * share)
        self._known = len(known)
        self._last = ""
        self.repaired = 0
        self.keys = dict.fromkeys(known)

    def add(self, batch: Batch) -> None:
        """Count a batch's unreadable samples, each once, in a run of a single process.

        Raises:
            DataError: there are too many, or no sample of the batch is readable.
        """
        self.note(batch)
        self.check(len(self.keys), len(batch.keys))

    def note(self, batch: Batch) -> None:
        """Count the unreadable samples of this process's part of a batch, each once."""
        self.keys.update(dict.fromkeys(batch.corrupt))
        self.repaired += batch.repaired
        for reason in batch.corrupt.values():
            self._last = reason

    def check(self, unreadable: int, readable: int) -> None:
        """Stop the run if there are too many unreadable samples.

        With several processes each passes the sums over all, so that all stop. A sample that two processes read in
        two epochs counts twice in such a sum.

        Args:
            unreadable: samples found so far (`len(keys)`).
            readable: readable samples of the step (`len(batch.keys)`).

        Raises:
            DataError: there are too many, or no sample of the batch is readable.
        """
        last = f"; the last was {self._last}" if self._last else ""
        if unreadable > self._allowed and unreadable > self._known:
            raise DataError(
                f"{unreadable} samples are unreadable, more than data.max_corrupt allows ({self._allowed})"
                f"{last}: run `wit verify` on the dataset"
            )
        if not readable:
            raise DataError(f"no sample of a whole batch is readable{last}: run `wit verify`")

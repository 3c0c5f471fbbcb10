"""A step's batch in parts: chunks of GradCache, made one by one, so that the first is embedded while others are made.

In the host's memory there is then about one batch ahead, as bytes, however many threads there are: a thread makes a
part, not a batch.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

from openwit.training.data.loader import Batch, BatchMaker


class StepBatch:
    """This process's part of a step's batch, in parts that may still be prepared; iterated once and to its end.

    Args:
        first: the first part.
        others: waits for each other part.
    """

    def __init__(self, first: Batch, others: Iterator[Batch] | None = None) -> None:
        self._first, self._others = first, others or iter(())
        self.seen = first.seen
        self.waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        """Yield the parts; the seconds that this waits are added to `waited`."""
        yield self._first
        while True:
            begin = time.perf_counter()
            part = next(self._others, None)
            self.waited += time.perf_counter() - begin
            if part is None:
                return
            yield part


class StepLoader(Protocol):
    """The batches of steps in order, as a context manager."""

    def __enter__(self) -> "StepLoader": ...
    def __exit__(self, *_: object) -> None: ...
    def __next__(self) -> StepBatch: ...


class Task(NamedTuple):
    """A part to be made.

    Attributes:
        step: that it belongs to.
        make: prepares it.
    """

    step: int
    make: Callable[[], Batch]


def tasks_of(maker: BatchMaker, start: int, size: int) -> Iterator[Task]:
    """Yield the parts of every step from `start` on, each of `size` samples but the last of a step."""
    while parts := maker.parts(start, size):
        for make in parts:
            yield Task(start, make)
        start += 1


class PartLoader:
    """Batches in parts, prefetched by threads. Use as a context manager, so that the threads end with the block.

    Args:
        tasks: the parts of all steps, in order.
        workers: number of threads; 0 prepares each part on demand.
        ahead: number of parts in preparation or ready.
        close: called at the end of the block.
    """

    def __init__(
        self, tasks: Iterator[Task], *, workers: int, ahead: int, close: Callable[[], None] = lambda: None
    ) -> None:
        self._tasks = tasks
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader") if workers else None
        self._ahead = max(ahead, workers) if workers else 1
        self._pending: deque[tuple[int, Callable[[], Batch]]] = deque()
        self._close = close

    def __enter__(self) -> "PartLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[StepBatch]:
        return self

    def __next__(self) -> StepBatch:
        self._fill()
        if not self._pending:
            raise StopIteration
        step, wait = self._pending.popleft()
        return StepBatch(wait(), self._others(step))

    def _others(self, step: int) -> Iterator[Batch]:
        while True:
            self._fill()
            if not self._pending or self._pending[0][0] != step:
                return
            yield self._pending.popleft()[1]()

    def _fill(self) -> None:
        while len(self._pending) < self._ahead and (task := next(self._tasks, None)) is not None:
            make = task.make
            if self._pool is not None:
                future: Future[Batch] = self._pool.submit(make)
                make = future.result
            self._pending.append((task.step, make))


class WholeBatches:
    """Batches that are made as a whole, each as a step of one part.

    Args:
        loader: makes them.
    """

    def __init__(self, loader: "_Batches") -> None:
        self._loader = loader

    def __enter__(self) -> "WholeBatches":
        self._loader.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._loader.__exit__(*error)

    def __next__(self) -> StepBatch:
        return StepBatch(next(self._loader))


class _Batches(Protocol):
    def __enter__(self) -> object: ...
    def __exit__(self, *_: object) -> None: ...
    def __next__(self) -> Batch: ...

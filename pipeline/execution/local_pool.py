"""Run items of work in processes of this machine that live until the pool is closed.

`concurrent.futures` with a fork server does the work: the server imports the libraries once, and each worker is a copy
of it that starts in milliseconds. On top of it, the items of a worker that died are done again.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import types
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from openwit.pipeline.execution.engine import limit_cores
from openwit.pipeline.execution.pool import InProcessPool, Work
from openwit.pipeline.execution.pool_worker import Outcome, pickled, quiet_logs, serve
from openwit.schemas.common.errors import RecipeError, WorkerError
from openwit.schemas.common.stopping import stop_if_asked

_PRELOADED = "openwit.pipeline.execution.preloaded"
_POLL_S = 0.2
_QUEUED_PER_WORKER = 2
_ALONE_S = 1.0
"""A job that ends within this time does not start a second worker: that would cost more than it brings."""
_MAX_DEATHS = 3
_SECONDS_TO_END = 5
_SUSPECT_DEATHS = 2
# The kernel ends the process with the highest score when memory runs out: a worker, whose item is done again.
_OOM_SCORE = "500"

_log = logging.getLogger(__name__)


class LocalPool:
    """Run items in worker processes of this machine; see `openwit.pipeline.execution.pool.Pool`.

    The first worker starts with the first `run` of several items, the others with one that takes longer than
    `_ALONE_S`; they end with `close` or with this process. An item runs again when a worker dies; after
    `_MAX_DEATHS` deaths while only that item ran, the job fails.

    Args:
        workers: at least 2.
        cores: that the workers share; with fewer items than workers, each has more of them.
        required: refuse work that workers cannot import, instead of doing it in this process.
    """

    def __init__(self, workers: int, *, cores: int, required: bool = True) -> None:
        self._workers = workers
        self._required = required
        self._cores = cores
        self._executor: ProcessPoolExecutor | None = None
        self._grown = False
        self._lock = threading.Lock()

    def run(self, work: Work, items: Sequence[Any], names: Sequence[str]) -> Iterator[tuple[int, Any]]:
        """See `Pool`.

        Raises:
            WorkerError: workers died again and again.
            RecipeError: something of the work is defined where workers cannot import it.
        """
        if len(items) < 2:
            yield from InProcessPool().run(work, items, names)
            return
        try:
            data = pickled(work)
        except RecipeError as error:
            if self._required:
                raise
            _log.warning("%s: one process does it", error)
            yield from InProcessPool().run(work, items, names)
            return
        with tempfile.TemporaryDirectory(prefix="openwit-job-") as folder:
            job = Path(folder) / "work.pickle"
            job.write_bytes(data)
            try:
                yield from self._run(str(job), items, names)
            except BaseException:
                self.close()  # whatever still runs is of no use
                raise

    def prepare(self) -> None:
        """Start the fork server, which imports the libraries while this process plans."""
        if sys.platform.startswith("linux"):
            _context()
            with _hidden_main():
                forkserver.ensure_running()

    def check(self) -> None:
        """Do nothing: workers start on this machine."""

    def close(self) -> None:
        """End the workers at once; a later `run` starts new ones."""
        with self._lock:
            executor, self._executor, self._grown = self._executor, None, False
        if executor is not None:
            _kill(executor)

    def _run(self, job: str, items: Sequence[Any], names: Sequence[str]) -> Iterator[tuple[int, Any]]:
        cores = max(self._cores // min(self._workers, len(items)), 1)
        began = time.monotonic()
        waiting = deque(range(len(items)))
        # Several items run when a worker dies: those that did more than once run alone in the end, so that the culprit
        # shows.
        suspects: deque[int] = deque()
        running: dict[Future[Outcome], int] = {}
        deaths: Counter[int] = Counter()
        alone: Counter[int] = Counter()
        while waiting or suspects or running:
            stop_if_asked()
            try:
                if waiting:
                    self._grown |= time.monotonic() - began > _ALONE_S
                    while waiting and len(running) < (self._workers * _QUEUED_PER_WORKER if self._grown else 1):
                        running[self._submit(job, items[waiting[0]], cores)] = waiting[0]
                        waiting.popleft()
                elif suspects and not running:
                    running[self._submit(job, items[suspects[0]], cores)] = suspects[0]
                    suspects.popleft()
                done, _ = wait(running, _POLL_S, FIRST_COMPLETED)
                for future in done:
                    outcome = future.result()
                    yield running.pop(future), outcome.value()
            except BrokenProcessPool as error:
                died = list(running.values())
                running = {}
                self.close()
                deaths.update(died)
                for index in died:
                    (suspects if deaths[index] >= _SUSPECT_DEATHS else waiting).append(index)
                    alone[index] += len(died) == 1
                    if alone[index] >= _MAX_DEATHS:
                        raise WorkerError(
                            f"a worker process died {alone[index]} times while it ran only {names[index]!r}: did "
                            "memory run out? Use fewer --workers; run the same command to resume"
                        ) from error
                _log.warning("a worker process died; what it had not finished is done again")

    def _submit(self, job: str, item: Any, cores: int) -> "Future[Outcome]":
        with self._lock:
            if self._executor is None:
                self._executor = self._start()
            with _hidden_main():
                return self._executor.submit(_serve, job, pickled(item), cores)

    def _start(self) -> ProcessPoolExecutor:
        context = _context()
        return ProcessPoolExecutor(self._workers, mp_context=context, initializer=_prepare_worker)


def _context() -> BaseContext:
    """Return the way processes start: from a fork server on Linux, else anew."""
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_PRELOADED])
    return context


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Start processes that do not run the user's main script again, whether or not it guards against that."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _kill(executor: ProcessPoolExecutor) -> None:
    processes = list((executor._processes or {}).values())
    manager: Any = executor._executor_manager_thread  # a thread, whatever typeshed says
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    if manager is not None:
        # It closes its pipe, in which the interpreter would write at the same time when it ends.
        manager.join(_SECONDS_TO_END)


# What follows runs in the workers.


def _prepare_worker() -> None:
    # Ctrl-C goes to all processes of a terminal: the driver ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    quiet_logs()


def _end_with_driver() -> None:
    """End this process when that of the driver is gone."""
    driver = multiprocessing.parent_process()
    assert driver is not None, "a worker has a parent"
    driver.join()
    os._exit(1)


def _serve(job: str, item: bytes, cores: int) -> Outcome:
    limit_cores(cores)
    return serve(job, Path(job).read_bytes, item)

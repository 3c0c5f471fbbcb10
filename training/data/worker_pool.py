"""Processes that make batches for the loader's threads, each of which waits for one of them.

Their memory is a file without a name, mapped by both sides: nothing of it is in /dev/shm or in a folder, so nothing is
left there however a run ends, and a container's limit of /dev/shm does not matter. A process ends when the socket to
this one closes, which the system does when this one ends.
"""

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import WorkerError
from openwit.training.data.preparation import Prepared, SampleMaker
from openwit.training.data.sharded import Dataset, Place
from openwit.training.data.worker_process import Shared

_MODULE = "openwit.training.data.worker_process"
_END_S = 5.0


class WorkerPool:
    """Processes that read samples and make arrays of them. Safe to use from several threads.

    Args:
        maker: what they do.
        dataset: what they read; it is sent to them.
        count: number of processes.
    """

    def __init__(self, maker: SampleMaker, dataset: Dataset, count: int) -> None:
        self._setup = pickle.dumps((maker, dataset))
        self._shape = maker.shape
        self._workers = [_Worker() for _ in range(count)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._closed = threading.Event()

    def make(self, places: Sequence[Place], images: NDArray[np.uint8]) -> Prepared:
        """Let a process make the samples at these places; their images are copied to `images`.

        Raises:
            WorkerError: the process was killed.
            OpenWITError: what it raised.
        """
        worker = self._idle.get()
        try:
            if self._closed.is_set():
                raise WorkerError("the loader was closed")
            found = worker.ask(self._setup, list(places))
            if isinstance(found, BaseException):
                raise found
            np.copyto(images[: len(found.keys)], worker.planes(self._shape(len(found.keys))))
            return found
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the processes, after what they are making."""
        if not self._closed.is_set():
            self._closed.set()
            for worker in self._workers:
                worker.close()

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes."""
        return [worker.process.pid for worker in self._workers]


class _Worker:
    """A process, its socket and its memory."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._memory = _nameless_file()
            self._shared = Shared(self._memory)
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
            threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
            self.process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(theirs.fileno()), str(self._memory)],
                pass_fds=(theirs.fileno(), self._memory),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **threads, "PYTHONPATH": path},
                start_new_session=True,  # a terminal's ctrl-C is for the run, which ends its workers
            )
        self._connection = Connection(ours.detach())
        self._is_set_up = False
        self._using = threading.Lock()

    def ask(self, setup: bytes, places: list[Place]) -> Prepared | BaseException:
        """Let it make samples."""
        try:
            with self._using:
                if not self._is_set_up:
                    self._connection.send_bytes(setup)
                    self._is_set_up = True
                self._connection.send_bytes(pickle.dumps(places))
                found: Prepared | BaseException = pickle.loads(self._connection.recv_bytes())
                return found
        except (EOFError, OSError) as error:
            raise self._gone() from error

    def planes(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the images that it made last."""
        return self._shared.planes(shape)

    def close(self) -> None:
        """End it after what it is making."""
        with self._using:
            self._connection.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with suppress(OSError):
            os.close(self._memory)

    def _gone(self) -> WorkerError:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_S)
        code = self.process.returncode
        if code is not None and code < 0:
            how = f"was killed ({signal.Signals(-code).name}), usually because the machine has too little memory"
        else:
            how = "ended" if code is None else f"ended with exit code {code}"
        return WorkerError(
            f"a process that prepares batches {how}: lower data.workers or data.prefetch, or set data.workers_in: "
            "threads"
        )


def _nameless_file() -> int:
    """Return a file without a name, in memory where the system can."""
    create = getattr(os, "memfd_create", None)
    if create is not None:
        return int(create("openwit-batches"))
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

"""A process that makes batches for the loader: `python -m openwit.training.data.worker_process SOCKET MEMORY`.

It reads orders from the socket, writes images into the shared memory, and answers with the rest. It ends when the
other end of the socket is gone, however that ended. It loads no torch, so that it starts in a second.
"""

import mmap
import os
import pickle
import signal
import sys
import traceback
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.malloc import keep_freed_memory
from openwit.training.data.preparation import Prepared, SampleMaker
from openwit.training.data.sharded import Dataset, Place, Reading, Sample, close_dataset


def main(socket: int, memory: int) -> None:
    """Serve until the other end is gone."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # of the group: the run ends as it does with threads
        signal.signal(stop, signal.SIG_IGN)
    keep_freed_memory(1 << 25, kept_bytes=1 << 30)
    connection = Connection(socket)
    dataset: Dataset | None = None
    try:
        maker: SampleMaker
        maker, dataset = pickle.loads(connection.recv_bytes())
        shared = Shared(memory)
        while True:
            places: list[Place] = pickle.loads(connection.recv_bytes())
            connection.send_bytes(_answer(maker, dataset, places, shared))
    except (EOFError, OSError):
        pass
    finally:
        if dataset is not None:
            close_dataset(dataset)


class Shared:
    """Memory of a file without a name that two processes map; it grows.

    Args:
        fd: of the file.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map: mmap.mmap | None = None

    def planes(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the first bytes as an array of this shape."""
        size = int(np.prod(shape))
        if not size:
            return np.empty(shape, np.uint8)
        if self._map is None or len(self._map) < size:
            if os.fstat(self._fd).st_size < size:
                os.ftruncate(self._fd, size)
            self._map = mmap.mmap(self._fd, size)  # the old one goes with its last array
        return np.frombuffer(self._map, np.uint8, size).reshape(shape)


def _answer(maker: SampleMaker, dataset: Dataset, places: list[Place], shared: Shared) -> bytes:
    try:
        with dataset.reading(places) as read:
            planes = shared.planes(maker.shape(len(places)))
            found: Prepared | BaseException = maker.make(
                [partial(_read, read, *place) for place in places], planes, {}
            )
    except Exception as error:
        found = _portable(error)
    return pickle.dumps(found)


def _read(read: Reading, epoch: int, index: int) -> tuple[int, Sample]:
    return epoch, read(index)


def _portable(error: Exception) -> BaseException:
    """Return an error that can be sent, with the traceback of this process and its causes: itself, or its text."""
    told = "".join(traceback.format_exception(error))
    try:
        error.add_note(told)  # pickle keeps notes, but neither tracebacks nor causes
        again: Any = pickle.loads(pickle.dumps(error))
        if type(again) is type(error) and str(again) == str(error) and told in getattr(again, "__notes__", ()):
            return error
    except Exception:
        pass
    return RuntimeError(told)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

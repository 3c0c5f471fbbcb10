"""End this process soon after another one of the run has failed, wherever it waits.

A rank whose partner is gone may wait inside a collective of NCCL, which notices nothing, until its timeout of half an
hour; torchrun ends such a rank, but srun does not unless told to. So a thread of each rank asks the store of the
process group twice a second whether any rank has reported an error, and ends the process if it does not end by itself.
"""

import atexit
import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

POLL_SECONDS = 0.5
GRACE_SECONDS = 10.0
"""For the process to end by itself: its last checkpoint may still be written."""
FAILED = 2


@contextmanager
def ending_with_others(has_failed: Callable[[], bool]) -> Iterator[None]:
    """End the process while the block runs, if another rank has failed.

    After an error of the block, what the process waits for at its very end (threads of NCCL) has the same time.

    Args:
        has_failed: whether any rank has reported an error; it must not raise.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            if has_failed():
                if not over.wait(GRACE_SECONDS):
                    _end()
                return

    watcher = threading.Thread(target=watch, name="other ranks", daemon=True)
    watcher.start()
    try:
        yield
    except BaseException:
        atexit.register(_limit_the_end)
        raise
    finally:
        over.set()


def _limit_the_end() -> None:
    """End the process for certain while the interpreter shuts down: a thread in C, which needs no lock of Python's."""
    faulthandler.dump_traceback_later(GRACE_SECONDS, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115


def _end() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(FAILED)

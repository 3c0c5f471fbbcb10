"""Notices that a chunk waits for the network, passed by files: a task may run in another process or machine."""

import logging
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from openwit.pipeline.download.status import NO_RESPONSE, RESPONDED, FetchStatus
from openwit.pipeline.execution.tasks import STAGE
from openwit.schemas.common.atomic import atomic_write

_log = logging.getLogger(__name__)
_NOTICES = f"{STAGE}/notices"
_POLL_S = 0.5


def pause_notice(chunk: str, statuses: Sequence[FetchStatus], pause_s: float, number: int, of: int) -> str:
    """What the user is told before pause `number` (from 1) of `of`."""
    heard = sum(status in RESPONDED for status in statuses)
    asked = heard + sum(status in NO_RESPONSE for status in statuses)
    what = f"Answers to only {heard} of {asked} URLs" if heard else "No answer from any server"
    return f"{what} in chunk {chunk}; pausing {pause_s:g} s ({number} of {of})"


def give_notice(folder: Path, chunk: str, number: int, notice: str) -> None:
    """Writes a sentence that the driver logs; see `logging_notices`."""
    atomic_write(folder / _NOTICES / f"{chunk}-{number:02d}.txt", notice)


@contextmanager
def logging_notices(folder: Path) -> Iterator[None]:
    """Logs the notices of tasks while the block runs."""
    shutil.rmtree(folder / _NOTICES, ignore_errors=True)
    stop, said = threading.Event(), set[str]()

    def say() -> None:
        for path in sorted((folder / _NOTICES).glob("[!.]*.txt")):
            if path.name not in said:
                said.add(path.name)
                _log.warning("%s", path.read_text())

    def watch() -> None:
        while not stop.wait(_POLL_S):
            say()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        say()
        shutil.rmtree(folder / _NOTICES, ignore_errors=True)

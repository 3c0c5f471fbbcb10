"""Relay messages of workers to the driver's log by files: a task may run in another process or machine."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from openwit.pipeline.download.status import NO_RESPONSE, RESPONDED, FetchStatus
from openwit.pipeline.execution.files import STAGE
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.printable import printable
from openwit.schemas.common.storage.reading import remove_tree

_log = logging.getLogger(__name__)
_NOTICES = f"{STAGE}/notices"
_POLL_S = 0.5
_JOIN_S = 10.0


def pause_message(
    chunk: str, statuses: Sequence[FetchStatus], pause_s: float, number: int, of: int, *, hosts: int = 0
) -> str:
    """Return the message before pause `number` (from 1) of `of`, in seconds, with the reason for it."""
    responded = sum(status in RESPONDED for status in statuses)
    silent = Counter(status for status in statuses if status in NO_RESPONSE)
    tried = responded + silent.total()
    what = f"Only {responded} of {tried} URLs got a response" if responded else "No server responded"
    why = ", ".join(f"{n} {status.value}" for status, n in sorted(silent.items(), key=lambda item: -item[1]))
    where = f" from {hosts} hosts" if hosts else ""
    return (
        f"{what} in chunk {chunk} ({why}{where}), as when this machine's network is down; "
        f"pausing {pause_s:g} s ({number} of {of})"
    )


def outage_message(chunk: str, statuses: Sequence[FetchStatus], tries: int) -> str:
    """Return the message of a run that ends because the network seems to be down."""
    silent = [status for status in statuses if status in NO_RESPONSE]
    responded = sum(status in RESPONDED for status in statuses)
    worst = max(sorted(set(silent)), key=silent.count)
    return (
        f"chunk {chunk}: only {responded} of {responded + len(silent)} URLs got a response ({worst.value}) in "
        f"{tries} {'try' if tries == 1 else 'tries'}, so this machine's network or resolver seems to be "
        "down: fix it and rerun the build; finished chunks are kept "
        "(or set fetch.min_success to 0 to accept the failures)"
    )


def post_message(folder: Path, chunk: str, number: int, message: str) -> None:
    """Write a sentence that the driver logs; see `relay_worker_messages`."""
    atomic_write(folder / _NOTICES / f"{chunk}-{number:02d}.txt", message)


@contextmanager
def relay_worker_messages(folder: Path) -> Iterator[None]:
    """Log the messages of tasks while the block runs."""
    remove_tree(folder / _NOTICES)
    stop, logged = threading.Event(), set[str]()

    def log_new() -> None:
        for path in sorted((folder / _NOTICES).glob("[!.]*.txt")):
            if path.name not in logged:
                logged.add(path.name)
                _log.warning("%s", printable(path.read_text(encoding="utf-8", errors="replace")))

    def watch() -> None:
        while not stop.wait(_POLL_S):
            log_new()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join(_JOIN_S)
        log_new()
        remove_tree(folder / _NOTICES)

"""Resolve names without being blocked by many slow ones.

libcurl's resolver uses at most twenty threads, and a lookup that waits there counts against its transfer's connect
timeout: a few hundred dead names make every other host time out. Here lookups have a separate thread pool, each has a
deadline, and a transfer starts only when its addresses are known.
"""

import queue
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

_FRESH_S = 600.0
_FRESH_NOT_FOUND_S = 60.0
# Final results of the resolver; everything else (no server reached, SERVFAIL) may be transient.
_NOT_FOUND = frozenset(
    code for code in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)) if code is not None
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resolution:
    """The result of a lookup: addresses, or none and the reason."""

    addresses: tuple[str, ...]
    not_found: bool = False
    detail: str = ""


class Resolver:
    """Look up names in background threads; used by one thread at a time.

    Args:
        threads: maximum concurrent lookups.
        timeout_s: a lookup that takes longer, without its time in the queue, ends without addresses. Its thread
            stays busy until the system's resolver gives up.
        wake: called from a background thread when a result is ready to be collected.
        max_names: maximum number of cached final results; the least recently used are evicted.
    """

    def __init__(self, threads: int, timeout_s: float, wake: Callable[[], None], max_names: int = 100_000) -> None:
        self.threads = threads
        self.timeout_s = timeout_s
        self.max_names = max_names
        self._wake = wake
        self._known: OrderedDict[str, tuple[float, Resolution]] = OrderedDict()
        self._pending: set[str] = set()
        self._waiting: deque[str] = deque()
        self._running: dict[str, float] = {}
        self._questions: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[str, Resolution]] = queue.SimpleQueue()
        self._started = 0
        self._stuck = 0

    def get(self, host: str, now: float) -> Resolution | None:
        """Return the cached final result for a name, or None."""
        entry = self._known.get(host)
        if entry is None:
            return None
        if entry[0] < now:
            del self._known[host]
            return None
        self._known.move_to_end(host)
        return entry[1]

    def ask(self, host: str, now: float) -> None:
        """Start a lookup, unless it is running; `collect` returns its result."""
        if host not in self._pending:
            self._pending.add(host)
            self._waiting.append(host)
            self._dispatch(now)

    def collect(self, now: float) -> list[tuple[str, Resolution]]:
        """Return the results since the last call, including lookups that timed out."""
        answers: list[tuple[str, Resolution]] = []
        while not self._answers.empty():
            host, resolution = self._answers.get()
            if self._running.pop(host, None) is None:
                self._stuck -= 1  # timed out before; its thread is free again
                continue
            self._settle(host, resolution, now)
            answers.append((host, resolution))
        for host in [host for host, started in self._running.items() if now - started > self.timeout_s]:
            del self._running[host]
            self._stuck += 1
            resolution = Resolution((), detail=f"no answer in {self.timeout_s:g} s")
            self._settle(host, resolution, now)
            answers.append((host, resolution))
        self._dispatch(now)
        return answers

    def forget_pending(self) -> None:
        """Discard queued lookups."""
        self._pending.difference_update(self._waiting)
        self._waiting.clear()

    def close(self) -> None:
        """Let the threads end after their current lookup; does not wait for them."""
        for _ in range(self._started):
            self._questions.put(None)

    def _settle(self, host: str, resolution: Resolution, now: float) -> None:
        self._pending.discard(host)
        if resolution.addresses or resolution.not_found:
            fresh = _FRESH_S if resolution.addresses else _FRESH_NOT_FOUND_S
            self._known[host] = (now + fresh, resolution)
            if len(self._known) > self.max_names:
                self._known.popitem(last=False)

    def _dispatch(self, now: float) -> None:
        # A host that timed out may be looked up again while its first lookup still runs: that thread is not free.
        while self._waiting and len(self._running) + self._stuck < self.threads:
            host = self._waiting.popleft()
            self._running[host] = now
            if self._started < len(self._running) + self._stuck:
                self._started += 1
                threading.Thread(target=self._work, name="resolver", daemon=True).start()
            self._questions.put(host)

    def _work(self) -> None:
        while (host := self._questions.get()) is not None:
            self._answers.put((host, look_up(host)))
            self._wake()


def look_up(host: str) -> Resolution:
    """Look up the addresses of a name, in the order in which they should be tried. Blocks."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror as error:
        return Resolution((), error.errno in _NOT_FOUND, str(error.strerror))
    except (OSError, UnicodeError) as error:
        return Resolution((), detail=str(error))
    return Resolution(tuple(dict.fromkeys(str(entry[4][0]) for entry in found)))

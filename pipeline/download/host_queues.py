"""Schedule items by host: a queue per host, with limits on concurrency and on the interval between starts."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


@dataclass(slots=True)
class _Host(Generic[ItemT]):
    urgent: deque[ItemT] = field(default_factory=deque)
    queue: deque[ItemT] = field(default_factory=deque)
    active: int = 0
    not_before: float = 0.0
    stopped: bool = False
    holds: int = 0
    listed: bool = False  # in the ready queue
    first: bool = False  # in the queue of those that are due
    deferred: bool = False  # waiting for its interval
    due: int = 0  # items that are due, at the front


class HostQueues(Generic[ItemT]):
    """Hand out items in turn from all hosts, within the limits of each host.

    A host can be *stopped* (nothing of it starts: its name is being looked up) or *held* (only urgent items
    start: its robots.txt is being fetched). Hosts that waited for a time (an interval, a retry) go before all others,
    which may be thousands. Times are any clock in seconds.

    Args:
        per_host: maximum active items per host, or a function that returns the present maximum of a host.
    """

    def __init__(self, per_host: int | Callable[[str], int]) -> None:
        self._limit_of = per_host if callable(per_host) else lambda _: per_host
        self._hosts: dict[str, _Host[ItemT]] = {}
        self._ready: deque[str] = deque()
        self._first: deque[str] = deque()
        self._later: list[tuple[float, str]] = []

    def push(self, host: str, item: ItemT, *, urgent: bool = False, front: bool = False, due: bool = False) -> None:
        """Add an item.

        Args:
            urgent: it also starts while its host is held.
            front: it goes before the others of its class (urgent or not).
            due: its host goes before other hosts.
        """
        state = self._hosts.setdefault(host, _Host())
        line = state.urgent if urgent else state.queue
        if front:
            line.appendleft(item)
        else:
            line.append(item)
        state.due += due
        self._list(host, state)

    def next(self, now: float, *, due_only: bool = False) -> tuple[str, ItemT] | None:
        """Pop an item that may start now, or return None; with `due_only` one of a host that waited for a time.

        The caller calls `started` if it starts the item, and `tidy` if it does not.
        """
        while self._later and self._later[0][0] <= now:
            host = heapq.heappop(self._later)[1]
            self._hosts[host].deferred = False
            self._list(host, self._hosts[host], due=True)
            self.tidy(host, now)
        while self._first or (self._ready and not due_only):
            due = bool(self._first)
            host = (self._first if due else self._ready).popleft()
            state = self._hosts[host]
            if due:
                state.first = False
            else:
                state.listed = False
            if not self._startable(host, state):
                self.tidy(host, now)
                continue
            if state.not_before > now:
                if not state.deferred:
                    self._defer(host, state)
                continue
            item = (state.urgent or state.queue).popleft()
            state.due = max(0, state.due - 1)
            self._list(host, state)
            return host, item
        return None

    def next_due(self) -> float | None:
        """Return when the next host that only waits for its interval may start, or None."""
        return self._later[0][0] if self._later else None

    def started(self, host: str, now: float, *, interval_s: float) -> None:
        """Record that an item of the host became active; the next may start `interval_s` from now."""
        state = self._hosts.setdefault(host, _Host())
        state.active += 1
        if interval_s > 0:
            state.not_before = max(state.not_before, now + interval_s)
            if not state.deferred:
                self._defer(host, state)

    def finished(self, host: str, now: float) -> None:
        """Record that an active item of the host ended."""
        state = self._hosts[host]
        state.active -= 1
        self._list(host, state)
        self.tidy(host, now)

    def active(self, host: str) -> int:
        """Return how many items of the host are active."""
        state = self._hosts.get(host)
        return 0 if state is None else state.active

    def delay(self, host: str, until: float) -> None:
        """Start nothing of the host before `until`."""
        state = self._hosts.setdefault(host, _Host())
        state.not_before = max(state.not_before, until)
        if not state.deferred:
            self._defer(host, state)

    def stop(self, host: str) -> None:
        """Start nothing of the host until `resume`."""
        self._hosts.setdefault(host, _Host()).stopped = True

    def resume(self, host: str) -> None:
        """End `stop`."""
        if host in self._hosts:
            self._hosts[host].stopped = False
            self._list(host, self._hosts[host])

    def hold(self, host: str) -> None:
        """Start only urgent items of the host until the matching call of `release`."""
        self._hosts.setdefault(host, _Host()).holds += 1

    def release(self, host: str) -> None:
        """End one `hold`."""
        state = self._hosts[host]
        state.holds -= 1
        self._list(host, state)

    def drain(self, host: str) -> list[ItemT]:
        """Pop all waiting items of the host, urgent items first."""
        state = self._hosts.get(host)
        if state is None:
            return []
        items = [*state.urgent, *state.queue]
        state.urgent.clear()
        state.queue.clear()
        state.due = 0
        return items

    def clear(self) -> None:
        """Remove all hosts and items."""
        self._hosts.clear()
        self._ready.clear()
        self._first.clear()
        self._later.clear()

    def _startable(self, host: str, state: _Host[ItemT]) -> bool:
        waits = state.urgent or (state.queue and not state.holds)
        return bool(waits) and not state.stopped and state.active < self._limit_of(host)

    def tidy(self, host: str, now: float) -> None:
        """Remove a host without items, so that memory does not grow with the number of hosts."""
        state = self._hosts.get(host)
        if state is None or state.urgent or state.queue or state.active or state.holds:
            return
        if state.stopped or state.listed or state.first or state.deferred:
            return
        if state.not_before > now:
            self._defer(host, state)
        else:
            del self._hosts[host]

    def _list(self, host: str, state: _Host[ItemT], *, due: bool = False) -> None:
        due = due or state.due > 0  # also when the host's limit held them back until now
        if state.first or state.deferred or (state.listed and not due) or not self._startable(host, state):
            return
        if due:
            state.first = True
            self._first.append(host)
        else:
            state.listed = True
            self._ready.append(host)

    def _defer(self, host: str, state: _Host[ItemT]) -> None:
        state.deferred = True
        heapq.heappush(self._later, (state.not_before, host))

    def __len__(self) -> int:
        return len(self._hosts)

"""Heed hosts that refuse requests for now (HTTP 429, 503 with Retry-After): pause, ask slower, in the end give up."""

from dataclasses import dataclass

from openwit.pipeline.download.status import FetchStatus

_EARNED_S = 2.0
_SHARE = 4
_FASTER = 0.95
_MAX_HOSTS = 100_000


@dataclass(slots=True)
class _Host:
    status: FetchStatus
    in_a_row: int = 0
    refused_at: float = float("-inf")
    until: float = float("-inf")
    waited_s: float = 0.0
    interval_s: float = 0.0
    given_up: bool = False


class Refusals:
    """The refusals of each host; of a bounded number of hosts, the oldest are forgotten.

    A refusal pauses the host: as long as its Retry-After says, else `first_s`, twice as long with each in a row up to
    `longest_s`. All requests that were under way count as one. After the pause the host is also asked slower: an
    interval between two requests doubles with each refusal, and shrinks by a twentieth with each other answer.

    A host has made us wait as long as its pauses are together, less two seconds for each other answer. When that
    exceeds `patience_s`, or its Retry-After alone would, it is given up, so that a host that answers now and then is
    neither given up too early nor waited for without end.

    Args:
        first_s, longest_s: pauses where the host names none.
        patience_s: see above.
        max_hosts: that are remembered.
    """

    def __init__(self, *, first_s: float, longest_s: float, patience_s: float, max_hosts: int = _MAX_HOSTS) -> None:
        self._first_s, self._longest_s, self._patience_s = first_s, longest_s, patience_s
        self._max_hosts = max_hosts
        self._hosts: dict[str, _Host] = {}

    def refused(
        self, host: str, now: float, *, started: float, status: FetchStatus, retry_after_s: float | None
    ) -> float:
        """Record a refusal; return the seconds for which the host is left alone from now on.

        Args:
            now, started: the time, and when the request was started, on any clock in seconds.
            status: of the request.
            retry_after_s: as the host says.
        """
        state = self._hosts.pop(host, None) or _Host(status)
        self._hosts[host] = state
        if len(self._hosts) > self._max_hosts:
            del self._hosts[next(iter(self._hosts))]
        state.status = status
        before = max(state.until, now)
        if started >= state.refused_at:
            pause_s = min(self._first_s * 2.0 ** min(state.in_a_row, 60), self._longest_s)
            state.in_a_row += 1
            state.refused_at, state.until = now, before + pause_s
            state.interval_s = min(max(2 * state.interval_s, self._first_s / _SHARE), self._longest_s)
        state.until = max(state.until, now + (retry_after_s or 0.0))
        state.waited_s += state.until - before
        state.given_up = state.given_up or state.waited_s > self._patience_s
        return 0.0 if state.given_up else state.until - now

    def answered(self, host: str) -> None:
        """Record another answer."""
        state = self._hosts.get(host) if self._hosts else None
        if state is None:
            return
        state.in_a_row = 0
        state.waited_s = max(0.0, state.waited_s - _EARNED_S)
        state.interval_s *= _FASTER
        if not state.given_up and not state.waited_s and state.interval_s < self._first_s / (_SHARE * _SHARE):
            del self._hosts[host]

    def interval_s(self, host: str) -> float:
        """Return the seconds between the starts of two requests to the host."""
        state = self._hosts.get(host) if self._hosts else None
        return 0.0 if state is None else state.interval_s

    def given_up(self, host: str) -> FetchStatus | None:
        """Return the status of a host's other URLs if it is given up."""
        state = self._hosts.get(host) if self._hosts else None
        return state.status if state is not None and state.given_up else None

    def __len__(self) -> int:
        return len(self._hosts)

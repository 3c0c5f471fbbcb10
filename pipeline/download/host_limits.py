"""Limit the concurrent transfers of each host by how it answers: additive increase, multiplicative decrease."""

from dataclasses import dataclass

START = 8
"""Transfers at once to a host of which nothing is known."""
_TOLERANCE, _SLACK_S = 2.0, 0.1
# In the slow start: half of a round's answers are of requests from before it.
_START_TOLERANCE, _START_SLACK_S = 1.25, 0.05
_MAX_HOSTS = 100_000


@dataclass(slots=True)
class HostLimit:
    """The limit of one host, by the rule of TCP's congestion avoidance (AIMD; Chiu and Jain 1989, RFC 5681).

    A *round* is as many answers as the limit. After a round in which the limit was reached (RFC 7661: one that is not
    reached does not count) and in which the answers came about as fast as in the fastest round so far, the limit grows
    by one; until the first sign of load it doubles (slow start). If they came slower, as when requests queue at the
    server (TCP Vegas, RFC 6817), it shrinks by one, at the end of the slow start to a half, but not below where it
    started: pages may differ. When the server says that it is overloaded, or requests time out, the limit is halved,
    once for all requests that were under way. After timeouts without any answer it is not halved again: such a host is
    down, not busy, and is given up sooner when it is asked more at once.

    Attributes:
        most: upper bound of the limit.
        limit: transfers at once that the host is given, in [1, most].
    """

    most: int
    limit: int
    _start: int
    _fastest_s: float | None = None
    _answers: int = 0
    _sum_s: float = 0.0
    _reached: bool = False
    _halved_at: float = float("-inf")
    _heard: bool = False
    _unburdened: bool = True  # no sign of load so far

    @classmethod
    def new(cls, most: int) -> "HostLimit":
        """Return the limit of a host of which nothing is known."""
        start = min(START, most)
        return cls(most, start, start)

    def answered(self, latency_s: float, *, active: int) -> None:
        """Record an answer.

        Args:
            latency_s: from the request to the first byte of the answer.
            active: transfers of the host, this one included.
        """
        self._heard = True
        self._answers += 1
        self._sum_s += latency_s
        self._reached = self._reached or active >= self.limit
        if self._answers >= self.limit:
            self._end_round()

    def overloaded(self, now: float, *, started: float, refused: bool) -> None:
        """Record that a request was refused for the load of the server, or timed out.

        Args:
            now, started: the time, and when the request was started, on any clock in seconds.
            refused: the server said so.
        """
        if started < self._halved_at or not (refused or self._heard):
            return
        self._heard = self._unburdened = False
        self.limit = max(1, self.limit // 2)
        self._halved_at = now
        self._new_round()

    def _end_round(self) -> None:
        mean_s = self._sum_s / self._answers
        fastest_s = mean_s if self._fastest_s is None else min(self._fastest_s, mean_s)
        self._fastest_s = fastest_s
        tolerance, slack_s = (_START_TOLERANCE, _START_SLACK_S) if self._unburdened else (_TOLERANCE, _SLACK_S)
        if mean_s > tolerance * fastest_s + slack_s:
            less = self.limit // 2 if self._unburdened else self.limit - 1
            self.limit = max(less, min(self.limit, self._start))
            self._unburdened = False
        elif self._reached:
            self.limit = min(2 * self.limit if self._unburdened else self.limit + 1, self.most)
        self._new_round()

    def _new_round(self) -> None:
        self._answers, self._sum_s, self._reached = 0, 0.0, False


class HostLimits:
    """The limits of all hosts; of a bounded number of them, the oldest are forgotten.

    Args:
        most: upper bound of each limit.
        max_hosts: whose limits are remembered.
    """

    def __init__(self, most: int, max_hosts: int = _MAX_HOSTS) -> None:
        self._most = most
        self._first = HostLimit.new(most).limit
        self._max_hosts = max_hosts
        self._hosts: dict[str, HostLimit] = {}

    def of(self, host: str) -> int:
        """Return how many transfers the host is given at once."""
        known = self._hosts.get(host)
        return self._first if known is None else known.limit

    def answered(self, host: str, latency_s: float, *, active: int) -> None:
        """See `HostLimit.answered`."""
        self._known(host).answered(latency_s, active=active)

    def overloaded(self, host: str, now: float, *, started: float, refused: bool) -> None:
        """See `HostLimit.overloaded`."""
        self._known(host).overloaded(now, started=started, refused=refused)

    def _known(self, host: str) -> HostLimit:
        known = self._hosts.get(host)
        if known is None:
            while len(self._hosts) >= self._max_hosts:
                del self._hosts[next(iter(self._hosts))]
            known = self._hosts[host] = HostLimit.new(self._most)
        return known

    def __len__(self) -> int:
        return len(self._hosts)

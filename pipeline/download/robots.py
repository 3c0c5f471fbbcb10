"""robots.txt after RFC 9309: what a response means, and a cache of one answer per origin."""

import enum
from collections import OrderedDict
from dataclasses import dataclass

from protego import Protego

from openwit.pipeline.download.target import Target

MAX_ROBOTS_BYTES = 500 * 1024
"""How much of a robots.txt is read; RFC 9309, section 2.5, asks for at least this."""
MAX_ROBOTS_REDIRECTS = 5
"""RFC 9309, section 2.3.1.2: at least five are followed; beyond that the file counts as unavailable."""

_FRESH_S = 24 * 3600.0
_FRESH_UNREACHABLE_S = 600.0


class Verdict(enum.Enum):
    """What robots.txt says about one URL."""

    ALLOWED = "allowed"
    DISALLOWED = "disallowed"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class RobotsRules:
    """The rules of one origin for our agent.

    `parsed` is None where there is nothing to match against; `cause` is set where not even the host was reached:
    the status that every URL of the origin would have ended with.
    """

    otherwise: Verdict
    parsed: Protego | None = None
    crawl_delay_s: float = 0.0
    detail: str = ""
    cause: str = ""

    def verdict(self, target: Target, agent: str) -> Verdict:
        """Whether `agent` (a product token) may fetch the target."""
        if self.parsed is None:
            return self.otherwise
        return Verdict.ALLOWED if self.parsed.can_fetch(target.url, agent) else Verdict.DISALLOWED


ALLOW_ALL = RobotsRules(Verdict.ALLOWED)


def unreachable(detail: str, cause: str = "") -> RobotsRules:
    """Rules of an origin whose robots.txt could not be had: complete disallow (RFC 9309, section 2.3.1.4)."""
    return RobotsRules(Verdict.UNREACHABLE, detail=detail, cause=cause)


def rules_from_response(http_status: int, body: bytes, agent: str) -> RobotsRules:
    """What a final (not redirecting) answer to a request for robots.txt means.

    2xx is parsed, up to MAX_ROBOTS_BYTES; 4xx means that there are no rules; 5xx that nothing may be fetched
    (RFC 9309, section 2.3.1). 429 counts as 5xx, as the large crawlers do: a host that asks for less traffic
    has not said that everything is allowed.
    """
    if 200 <= http_status < 300:
        return _parse(body, agent)
    if 400 <= http_status < 500 and http_status != 429:
        return ALLOW_ALL
    return unreachable(f"robots.txt: HTTP {http_status}")


def _parse(body: bytes, agent: str) -> RobotsRules:
    if len(body) > MAX_ROBOTS_BYTES:
        # The last line may be cut in the middle of a path, which would forbid or allow too much.
        body = body[:MAX_ROBOTS_BYTES].rpartition(b"\n")[0]
    text = body.decode("utf-8", errors="replace").removeprefix("\ufeff")
    parsed = Protego.parse(text)
    delay = parsed.crawl_delay(agent)
    return RobotsRules(Verdict.ALLOWED, parsed, max(0.0, float(delay)) if delay is not None else 0.0)


class RobotsCache:
    """The rules of each origin, fetched once: kept for a day, or ten minutes where the host was unreachable.

    Args:
        max_origins: the least recently used origins beyond this number are forgotten, so that memory does not
            grow with the number of hosts of a crawl; a forgotten origin is simply asked again.
    """

    def __init__(self, max_origins: int = 20_000) -> None:
        self.max_origins = max_origins
        self._rules: OrderedDict[str, tuple[float, RobotsRules]] = OrderedDict()

    def get(self, origin: str, now: float) -> RobotsRules | None:
        """The rules of an origin, or None where they must be fetched. `now` is any clock in seconds."""
        entry = self._rules.get(origin)
        if entry is None:
            return None
        if entry[0] < now:
            del self._rules[origin]
            return None
        self._rules.move_to_end(origin)
        return entry[1]

    def put(self, origin: str, rules: RobotsRules, now: float) -> None:
        """Keeps the rules of an origin."""
        fresh = _FRESH_UNREACHABLE_S if rules.otherwise is Verdict.UNREACHABLE else _FRESH_S
        self._rules[origin] = (now + fresh, rules)
        self._rules.move_to_end(origin)
        while len(self._rules) > self.max_origins:
            self._rules.popitem(last=False)

    def __len__(self) -> int:
        return len(self._rules)

"""Interpret robots.txt (RFC 9309), and cache the rules of each origin."""

import enum
from collections import OrderedDict
from dataclasses import dataclass

from openwit.pipeline.download.robots_rules import CompiledRules, parse_rules
from openwit.pipeline.download.target import Target

MAX_ROBOTS_BYTES = 500 * 1024
"""Maximum bytes of a robots.txt that are read; RFC 9309, section 2.5, requires at least this."""
MAX_ROBOTS_REDIRECTS = 5
"""RFC 9309, section 2.3.1.2: at least five redirects are followed; after that the file counts as unavailable."""

_FRESH_S = 24 * 3600.0
_FRESH_UNREACHABLE_S = 600.0


class Verdict(enum.Enum):
    """The decision of robots.txt on one URL."""

    ALLOWED = "allowed"
    DISALLOWED = "disallowed"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class RobotsRules:
    """The rules of one origin for one agent.

    `parsed` is None if there are no rules to match; `cause` is set if the host was not reached: the status that every
    URL of the origin would have ended with.
    """

    otherwise: Verdict
    parsed: CompiledRules | None = None
    crawl_delay_s: float = 0.0
    detail: str = ""
    cause: str = ""

    def verdict(self, target: Target) -> Verdict:
        """Return whether the agent that the rules were read for may fetch the target."""
        if self.parsed is None:
            return self.otherwise
        path = "/" + target.url.split("/", 3)[3]
        return Verdict.ALLOWED if self.parsed.allows(path) else Verdict.DISALLOWED


ALLOW_ALL = RobotsRules(Verdict.ALLOWED)


def unreachable(detail: str, cause: str = "") -> RobotsRules:
    """Return the rules of an origin whose robots.txt is unreachable: complete disallow (RFC 9309, section 2.3.1.4)."""
    return RobotsRules(Verdict.UNREACHABLE, detail=detail, cause=cause)


def rules_from_response(http_status: int, body: bytes, agent: str) -> RobotsRules:
    """Return the rules in a final (not redirecting) response to a request for robots.txt.

    2xx is parsed, up to MAX_ROBOTS_BYTES; 4xx means that there are no rules; 5xx that nothing may be fetched (RFC
    9309, section 2.3.1). 429 counts as 5xx, as for the large crawlers: a host that requests less traffic does not
    thereby allow everything.
    """
    if 200 <= http_status < 300:
        return _parse(body, agent)
    if 400 <= http_status < 500 and http_status != 429:
        return ALLOW_ALL
    return unreachable(f"robots.txt: HTTP {http_status}")


def _parse(body: bytes, agent: str) -> RobotsRules:
    if len(body) > MAX_ROBOTS_BYTES:
        # The last line may be cut inside a path, which would forbid or allow too much.
        body = body[:MAX_ROBOTS_BYTES].rpartition(b"\n")[0]
    text = body.decode("utf-8", errors="replace").removeprefix("\ufeff")
    parsed = parse_rules(text, agent)
    return ALLOW_ALL if parsed is None else RobotsRules(Verdict.ALLOWED, parsed, parsed.crawl_delay_s)


class RobotsCache:
    """Cache the rules of each origin for a day, or for ten minutes if the host was unreachable.

    Args:
        max_origins: maximum number of cached origins, so that memory does not grow with the number of hosts; the
            least recently used are evicted, and fetched again when needed.
    """

    def __init__(self, max_origins: int = 20_000) -> None:
        self.max_origins = max_origins
        self._rules: OrderedDict[str, tuple[float, RobotsRules]] = OrderedDict()

    def get(self, origin: str, now: float) -> RobotsRules | None:
        """Return the rules of an origin, or None if they must be fetched. `now` is any clock in seconds."""
        entry = self._rules.get(origin)
        if entry is None:
            return None
        if entry[0] < now:
            del self._rules[origin]
            return None
        self._rules.move_to_end(origin)
        return entry[1]

    def put(self, origin: str, rules: RobotsRules, now: float) -> None:
        """Cache the rules of an origin."""
        fresh = _FRESH_UNREACHABLE_S if rules.otherwise is Verdict.UNREACHABLE else _FRESH_S
        self._rules[origin] = (now + fresh, rules)
        self._rules.move_to_end(origin)
        while len(self._rules) > self.max_origins:
            self._rules.popitem(last=False)

    def __len__(self) -> int:
        return len(self._rules)

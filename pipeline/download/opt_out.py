"""Find opt-outs in response headers: X-Robots-Tag and the TDM Reservation Protocol.

Sources: Google's robots meta tag specification (`X-Robots-Tag: [agent:] rule, rule`), DeviantArt's `noai` and
`noimageai`, and the W3C community group's TDM Reservation Protocol (`tdm-reservation: 1`).
"""

import re
from collections.abc import Iterable

X_ROBOTS_TAG = "x-robots-tag"
TDM_RESERVATION = "tdm-reservation"

OPT_OUT_RULES = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
"""Rules of X-Robots-Tag that exclude an image from a training set; `none` means noindex and nofollow."""

# Rules whose value follows a colon; any other word before a colon names the agent that the following rules are for.
_RULES_WITH_VALUE = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})
_AGENT_PREFIX = re.compile(r"\s*([^:,\s]+)\s*:(.*)", re.DOTALL)


def opt_out(headers: Iterable[tuple[str, str]], agent: str) -> str | None:
    """Return the first opt-out in response headers that applies to `agent`, such as `X-Robots-Tag: noai`, or None.

    Args:
        headers: (lower-case name, value) pairs; a header may occur more than once.
        agent: the downloader's product token, such as `openwit`; compared case-insensitively.
    """
    for name, value in headers:
        if name == X_ROBOTS_TAG:
            rule = robots_tag_opt_out(value, agent)
            if rule is not None:
                return f"X-Robots-Tag: {rule}"
        elif name == TDM_RESERVATION and value.strip() == "1":
            return "tdm-reservation: 1"
    return None


def robots_tag_opt_out(value: str, agent: str) -> str | None:
    """Return the first opt-out rule of one X-Robots-Tag value for every agent or for `agent`, or None.

    An agent's name applies until the next name in the same value: in `other: noai, openwit: noindex` only the second
    rule applies to `openwit`.
    """
    ours = True
    for part in value.split(","):
        rule = part
        match = _AGENT_PREFIX.match(part)
        if match is not None and match.group(1).lower() not in _RULES_WITH_VALUE:
            ours = match.group(1).lower() in ("*", agent.lower())
            rule = match.group(2)
        name = rule.strip().lower()
        if ours and name in OPT_OUT_RULES:
            return name
    return None

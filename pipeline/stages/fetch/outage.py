"""Telling a broken resolver or uplink of ours from dead hosts of others."""

from collections.abc import Mapping, Sequence
from enum import Enum, auto

from openwit.pipeline.download.status import NO_RESPONSE, RESPONDED, FetchStatus
from openwit.pipeline.stages.fetch.log import host_name

MIN_URLS = 20
"""Of fewer URLs nothing is concluded."""
MIN_HOSTS = 5
"""Fewer hosts than this may well be dead all at once."""


class Verdict(Enum):
    """What a chunk's answers say of our own connection."""

    FINE = auto()
    DOUBTFUL = auto()
    BROKEN = auto()


def judge(statuses: Mapping[str, FetchStatus], floor: float) -> Verdict:
    """What the answers of a chunk say of our own connection.

    Counted are URLs of which a server was heard (a 404 is as good as an image) against those whose failure an
    outage would explain. One big dead host does not make an outage: where enough hosts were heard, the share of
    URLs does not matter.

    Args:
        statuses: of each URL.
        floor: least share of URLs heard.

    Returns:
        BROKEN where many hosts are silent, DOUBTFUL where a few are and no others were asked.
    """
    heard = [url for url, status in statuses.items() if status in RESPONDED]
    unheard = [url for url, status in statuses.items() if status in NO_RESPONSE]
    asked = len(heard) + len(unheard)
    if asked < MIN_URLS or len(heard) >= floor * asked:
        return Verdict.FINE
    hosts_heard = {host_name(url) for url in heard}
    hosts = hosts_heard | {host_name(url) for url in unheard}
    if len(hosts) < MIN_HOSTS:
        return Verdict.DOUBTFUL
    return Verdict.FINE if len(hosts_heard) >= floor * len(hosts) else Verdict.BROKEN


def spread(urls: Sequence[str], n: int) -> list[str]:
    """About `n` of the URLs, evenly from first to last."""
    if len(urls) <= n:
        return list(urls)
    return [urls[at * len(urls) // n] for at in range(n)]


def one_of_each_host(urls: Sequence[str], n: int) -> list[str]:
    """The first URL of each of the first `n` hosts."""
    first: dict[str, str] = {}
    for url in urls:
        first.setdefault(host_name(url), url)
        if len(first) == n:
            break
    return list(first.values())

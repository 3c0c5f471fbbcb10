"""Distinguish a local network outage from dead remote hosts."""

from collections.abc import Mapping, Sequence
from enum import Enum, auto

from openwit.pipeline.download.status import NO_RESPONSE, RESPONDED, FetchStatus
from openwit.pipeline.stages.fetch.log import host_name

MIN_URLS = 20
"""Minimum number of URLs to judge by."""
MIN_HOSTS = 5
"""Minimum number of hosts to judge by: fewer may well be dead at the same time."""


class NetworkState(Enum):
    """State of the local network, judged by the statuses of a chunk."""

    FINE = auto()
    DOUBTFUL = auto()
    BROKEN = auto()


def judge(statuses: Mapping[str, FetchStatus], floor: float) -> NetworkState:
    """Judge the local network by the statuses of a chunk.

    Compares the URLs whose server responded (a 404 counts) with those whose failure an outage would explain. One large
    dead host is not an outage: if enough hosts responded, the share of URLs does not matter.

    Args:
        statuses: by URL.
        floor: minimum share of URLs, and of hosts, with a response.

    Returns:
        BROKEN if many hosts do not respond; DOUBTFUL if a few do not and the chunk has no others.
    """
    responded = [url for url, status in statuses.items() if status in RESPONDED]
    silent = [url for url, status in statuses.items() if status in NO_RESPONSE]
    if len(responded) + len(silent) < MIN_URLS or len(responded) >= floor * (len(responded) + len(silent)):
        return NetworkState.FINE
    alive = {host_name(url) for url in responded}
    hosts = alive | {host_name(url) for url in silent}
    if len(hosts) < MIN_HOSTS:
        return NetworkState.DOUBTFUL
    return NetworkState.FINE if len(alive) >= floor * len(hosts) else NetworkState.BROKEN


def spread(urls: Sequence[str], n: int) -> list[str]:
    """Return at most `n` of the URLs, evenly spaced from first to last."""
    if len(urls) <= n:
        return list(urls)
    return [urls[at * len(urls) // n] for at in range(n)]


def one_of_each_host(urls: Sequence[str], n: int) -> list[str]:
    """Return the first URL of each of the first `n` hosts."""
    first: dict[str, str] = {}
    for url in urls:
        first.setdefault(host_name(url), url)
        if len(first) == n:
            break
    return list(first.values())

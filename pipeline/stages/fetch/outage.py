"""Distinguish a local network outage from dead remote hosts."""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto

from openwit.pipeline.download.status import NO_RESPONSE, RESPONDED, FetchStatus
from openwit.pipeline.stages.fetch.log import host_name

MIN_URLS = 20
"""Minimum number of URLs to judge by."""
MIN_HOSTS = 5
"""Minimum number of sites to judge by: fewer may well be dead at the same time."""

_NAME_KNOWN = frozenset(
    {
        FetchStatus.DNS_NOT_FOUND,
        FetchStatus.CONNECT_FAILED,
        FetchStatus.CONNECT_TIMEOUT,
        FetchStatus.STALLED,
        FetchStatus.TIMEOUT,
    }
)
"""Silence after which the resolver at least has answered: it is reached over the same connection."""
_SECOND_LEVEL = 3
"""Length of the names below a country's domain that are no site: `co.uk`, `com.br`."""


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
        BROKEN if many hosts do not respond; DOUBTFUL if a few do not and the chunk has no others, or only those of
        one or a few sites, which may share a server.
    """
    responded = [url for url, status in statuses.items() if status in RESPONDED]
    silent = [url for url, status in statuses.items() if status in NO_RESPONSE]
    if len(responded) + len(silent) < MIN_URLS or len(responded) >= floor * (len(responded) + len(silent)):
        return NetworkState.FINE
    alive = {host_name(url) for url in responded}
    hosts = alive | {host_name(url) for url in silent}
    if alive and len(alive) >= floor * len(hosts):
        return NetworkState.FINE
    return NetworkState.DOUBTFUL if len({site_of(host) for host in hosts}) < MIN_HOSTS else NetworkState.BROKEN


def is_cut_off(chunk: Mapping[str, FetchStatus], others: Mapping[str, FetchStatus]) -> bool:
    """Judge a doubtful chunk by other hosts: a few dead hosts are not an outage of ours.

    Args:
        chunk: statuses of a chunk of which no host, or hardly one, responded.
        others: statuses of one URL of each of some other hosts; none if there are no others.
    """
    if any(status in RESPONDED for status in others.values()):
        return False
    silent = [url for url, status in (*chunk.items(), *others.items()) if status in NO_RESPONSE]
    if len({site_of(host_name(url)) for url in silent}) >= MIN_HOSTS:
        return True
    return not any(status in _NAME_KNOWN for status in (*chunk.values(), *others.values()))


def site_of(host: str) -> str:
    """Return the site that a host most likely belongs to: `example.co.uk` of `img3.example.co.uk`."""
    labels = host.split(".")
    if ":" in host or labels[-1].isdigit() or labels[-1] == "localhost":
        return host
    below_country = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= _SECOND_LEVEL
    return ".".join(labels[-3 if below_country else -2 :])


def hosts_of(urls: Iterable[str]) -> int:
    """Return the number of distinct hosts."""
    return len({host_name(url) for url in urls})


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

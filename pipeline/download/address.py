"""Decide which addresses may be contacted: global unicast only, unless the settings allow a network.

A crawler follows links written by strangers. Without this check a link (or a redirect, or a name that resolves to a
private address) makes the crawler connect to its own machine, its neighbours or the cloud's metadata service. The
tables follow the IANA special-purpose address registries (RFC 6890 and successors).
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from openwit.schemas.common.errors import RecipeError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED_V4 = tuple(
    (ipaddress.IPv4Network(network), why)
    for network, why in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local, cloud metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("168.63.129.16/32", "cloud metadata"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    (ipaddress.IPv6Network(network), why)
    for network, why in (
        ("2001::/23", "protocol assignments, Teredo"),
        ("2001:db8::/32", "documentation"),
        ("3fff::/20", "documentation"),
    )
)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

# Ports of services that interpret a request line as their own commands (the Fetch standard's "bad ports").
# HTTP sent there is at best lost and at worst an e-mail in the crawler's name.
# fmt: off
_REFUSED_PORTS = frozenset({
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060,
    5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
})
# fmt: on


class AddressPolicy:
    """Decide whether an address may be contacted.

    Args:
        allow_networks: networks in CIDR notation that are allowed although they are not global, such as
            `127.0.0.0/8` for tests and demonstrations. An IPv4 network also allows the IPv6 addresses that embed it.

    Raises:
        RecipeError: an entry is not a network.
    """

    def __init__(self, allow_networks: Iterable[str] = ()) -> None:
        self.allowed = tuple(parse_network(text) for text in allow_networks)
        self.refusal = lru_cache(maxsize=65_536)(self._refusal)

    def _refusal(self, address: str) -> str | None:
        """Return why this address (as text, with or without zone) may not be contacted, or None if it may."""
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return "not an address"
        embedded = embedded_v4(parsed)
        if any(_contains(network, candidate) for candidate in (parsed, embedded) for network in self.allowed):
            return None
        if embedded is not None:
            why = _refusal_v4(embedded)
            return f"{why} (embedded in {parsed})" if why else None
        return _refusal_v4(parsed) if isinstance(parsed, ipaddress.IPv4Address) else _refusal_v6(parsed)

    def allows(self, address: str) -> bool:
        """Return whether this address may be contacted."""
        return self.refusal(address) is None


def port_refusal(port: int) -> str | None:
    """Return why this port may not be contacted, or None if it may."""
    return f"port {port} belongs to another protocol" if port in _REFUSED_PORTS else None


def parse_network(text: str) -> IPNetwork:
    """Parse a network such as `10.1.0.0/16`; a bare address is a network of one.

    Raises:
        RecipeError: it is not a network.
    """
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise RecipeError(f"{text!r} is not a network: write it like 127.0.0.0/8 or ::1/128") from None


def embedded_v4(address: IPAddress) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address in a v4-mapped, 6to4 or NAT64 address, or None."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _MAPPED or address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    return None


def _contains(network: IPNetwork, address: IPAddress | None) -> bool:
    return address is not None and address.version == network.version and address in network


def _refusal_v4(address: ipaddress.IPv4Address) -> str | None:
    return next((f"{address} is {why}" for network, why in _REFUSED_V4 if address in network), None)


def _refusal_v6(address: ipaddress.IPv6Address) -> str | None:
    if address.is_loopback:
        return f"{address} is loopback"
    if address not in _GLOBAL_V6:
        return f"{address} is not global unicast"
    return next((f"{address} is {why}" for network, why in _REFUSED_V6 if address in network), None)

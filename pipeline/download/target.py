"""Check, encode and split an image URL into the parts that the downloader needs."""

import re
from typing import NamedTuple

from openwit.pipeline.common.urls import (
    MAX_URL_LENGTH,
    is_plain,
    normalise_host,
    parse_url,
    resolve,
    without_final_dot,
)

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[\x00-\x20]*([a-zA-Z][a-zA-Z0-9+.-]*):")
# What names of servers consist of. The URL Standard allows more; to libcurl some of it is syntax.
_HOST = re.compile(r"[a-z0-9._-]+\Z")


class BadUrlError(ValueError):
    """The URL cannot be requested; the message has the reason."""


class UnsupportedSchemeError(BadUrlError):
    """The URL is well formed but neither http nor https."""


class Target(NamedTuple):
    """A URL to request.

    Attributes:
        url: pure ASCII, without fragment, its host as below.
        scheme: http or https.
        host: lower-case, IDNA, an IPv6 address without brackets.
        port: as written or the scheme's.
        origin: `scheme://host:port`, the scope of one robots.txt (RFC 9309, section 2.3).
    """

    url: str
    scheme: str
    host: str
    port: int
    origin: str

    @property
    def robots_url(self) -> str:
        """Return the URL of this target's robots.txt."""
        return f"{self.origin}/robots.txt"

    @property
    def needs_lookup(self) -> bool:
        """Return whether the host must be resolved: not numeric hosts or localhost (RFC 6761), which libcurl knows."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return False
        return ":" not in self.host and not self.host.rpartition(".")[2].isdigit()


def parse_target(url: str) -> Target:
    """Check and encode a URL: the address that a browser takes (see `openwit.pipeline.common.urls`).

    Robots rules are matched against exactly the URL that is sent. A dot at the end of the host is removed, so that
    limits, rules and blocklists of the host hold for both spellings.

    Raises:
        UnsupportedSchemeError: neither http nor https.
        BadUrlError: not a URL that can be requested; the message has the reason.
    """
    if len(url) > MAX_URL_LENGTH:
        raise BadUrlError(f"longer than {MAX_URL_LENGTH} characters")
    if is_plain(url):
        scheme, _, rest = url.partition("://")
        host = rest.partition("/")[0]  # of a length that names have: the pattern says so
        port = _DEFAULT_PORTS[scheme]
        return Target(url, scheme, host, port, f"{scheme}://{host}:{port}")
    parts = parse_url(url)
    if parts is None:
        raise _refusal(url)
    if parts.userinfo:
        raise BadUrlError("holds a user name")
    authority = without_final_dot(parts.host)
    host = authority.strip("[]")
    if host == authority:
        _check_host(host)
    port = int(parts.port) if parts.port else _DEFAULT_PORTS[parts.scheme]
    sent = parts.url
    if authority != parts.host:
        sent = sent.replace(parts.host, authority, 1)
    return Target(sent, parts.scheme, host, port, f"{parts.scheme}://{authority}:{port}")


def _refusal(url: str) -> BadUrlError:
    scheme = _SCHEME.match(url)
    if scheme is None:
        return BadUrlError("not absolute")
    if scheme.group(1).lower() not in _DEFAULT_PORTS:
        return UnsupportedSchemeError(f"scheme {scheme.group(1).lower()!r}")
    return BadUrlError("not a URL by the URL Standard, or too long once encoded")


def _check_host(host: str) -> None:
    if len(host) > 253 or not _HOST.match(host) or any(not 0 < len(label) <= 63 for label in host.split(".")):
        raise BadUrlError(f"{host[:80]!r} is not a host name")


def redirect_target(current: Target, location: bytes) -> Target:
    """Return the target of a Location header, absolute or relative.

    Raises:
        BadUrlError: as for `parse_target`.
    """
    try:
        text = location.decode("utf-8")
    except UnicodeDecodeError:
        text = location.decode("latin-1")
    if not text.strip():
        raise BadUrlError("empty Location")
    url = resolve(current.url, text)
    return parse_target(text if url is None else url)  # the words for what is wrong


def encode_host(name: str) -> str:
    """Normalise a host as in a `Target`: lower-case, IDNA, an IPv6 address without brackets.

    Raises:
        BadUrlError: it is not a host name.
    """
    host = normalise_host(name)
    if host is None:
        raise BadUrlError(f"{name[:80]!r} is not a host name")
    if ":" not in host:
        _check_host(host)
    return host

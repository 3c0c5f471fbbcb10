"""Check, encode and split an image URL into the parts that the downloader needs."""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

MAX_URL_LENGTH = 8_192

_DEFAULT_PORTS = {"http": 80, "https": 443}
# Most URLs need none of the steps below; this test takes a tenth of their time.
_PLAIN = re.compile(
    r"(https?)://((?:[a-z0-9-]{1,63}\.){1,3}[a-z0-9-]{1,63})(?::([1-5]?[1-9][0-9]{3}))?/[A-Za-z0-9/._~!$&'()*+,;=:@-]*"
    r"(?:\?[A-Za-z0-9/._~!$&'()*+,;=:@-]+)?\Z"
)
_SCHEME = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[a-z0-9._-]+\Z")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Characters that RFC 3986 allows in a path or query, and the few that browsers send unencoded.
_SAFE = "/%:@!$&'()*+,;=~-._|[]?"


class BadUrlError(ValueError):
    """The URL cannot be requested; the message has the reason."""


class UnsupportedSchemeError(BadUrlError):
    """The URL is well formed but neither http nor https."""


class Target(NamedTuple):
    """A URL to request.

    Attributes:
        url: pure ASCII, without fragment.
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
    """Check and encode a URL.

    Surrounding blanks and the fragment are removed, dot segments are resolved, international names become IDNA and
    everything outside ASCII is percent-encoded as UTF-8, so that robots rules are matched against exactly the URL that
    is sent.

    Raises:
        UnsupportedSchemeError: neither http nor https.
        BadUrlError: not a URL that can be requested; the message has the reason.
    """
    plain = _PLAIN.match(url)
    if plain is not None and "/." not in url and len(url) <= MAX_URL_LENGTH:
        scheme, host, written = plain.groups()
        port = int(written) if written else _DEFAULT_PORTS[scheme]
        return Target(url, scheme, host, port, f"{scheme}://{host}:{port}")
    text = url.strip()
    if len(text) > MAX_URL_LENGTH:
        raise BadUrlError(f"longer than {MAX_URL_LENGTH} characters")
    if _CONTROL.search(text):
        raise BadUrlError("holds control characters")
    scheme_match = _SCHEME.match(text)
    if scheme_match is None:
        raise BadUrlError("not absolute")
    scheme = scheme_match.group(1).lower()
    if scheme not in _DEFAULT_PORTS:
        raise UnsupportedSchemeError(f"scheme {scheme!r}")
    try:
        parts = urlsplit(text)
        port = parts.port or _DEFAULT_PORTS[scheme]
        name = parts.hostname
    except ValueError as error:
        raise BadUrlError(str(error)) from None
    if not name:
        raise BadUrlError("no host")
    if parts.username is not None or parts.password is not None:
        raise BadUrlError("holds a user name")
    host = encode_host(name)
    path = _encode(_without_dot_segments(parts.path or "/"))
    query = f"?{_encode(parts.query)}" if parts.query else ""
    suffix = "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
    authority = _bracketed(host)
    url = f"{scheme}://{authority}{suffix}{path}{query}"
    return Target(url, scheme, host, port, f"{scheme}://{authority}:{port}")


def redirect_target(current: Target, location: bytes) -> Target:
    """Return the target of a Location header, absolute or relative.

    Raises:
        BadUrlError: as for `parse_target`.
    """
    try:
        text = location.decode("utf-8")
    except UnicodeDecodeError:
        text = location.decode("latin-1")
    text = text.strip()
    if not text:
        raise BadUrlError("empty Location")
    try:
        return parse_target(urljoin(current.url, text))
    except BadUrlError:
        raise
    except ValueError as error:
        raise BadUrlError(str(error)) from None


def _encode(text: str) -> str:
    try:
        return quote(_BAD_ESCAPE.sub("%25", text), safe=_SAFE)
    except UnicodeEncodeError:
        raise BadUrlError("holds a lone surrogate") from None


def encode_host(name: str) -> str:
    """Normalise a host as in a `Target`: lower-case, IDNA, an IPv6 address without brackets.

    Raises:
        BadUrlError: it is not a host name.
    """
    if ":" in name:
        try:
            return ipaddress.IPv6Address(name.partition("%")[0]).compressed
        except ValueError:
            raise BadUrlError(f"{name!r} is not an IPv6 address") from None
    host = name.rstrip(".")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii").lower()
        except UnicodeError:
            raise BadUrlError(f"host {name!r} has no IDNA form") from None
    if len(host) > 253 or not _HOST.match(host) or any(not 0 < len(label) <= 63 for label in host.split(".")):
        raise BadUrlError(f"{name!r} is not a host name")
    return host


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _without_dot_segments(path: str) -> str:
    """Remove dot segments from an absolute path (RFC 3986, section 5.2.4); empty segments are kept."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)

"""Parse and resolve URLs as browsers do, and normalise them so that equal resources have equal URLs.

The one parser for pages, identities, redirects and requests: the WHATWG URL Standard (https://url.spec.whatwg.org),
by Ada. Normalisation adds the percent-encoding rules of RFC 3986 section 6.2.2, and drops the dot at a host's end.
"""

import functools
import re
from collections.abc import Collection
from typing import NamedTuple

import ada_url
import numpy as np
import xxhash

MAX_URL_LENGTH = 8192
"""Longer URLs are rejected: servers reject them too, and they are nearly always data in the wrong place."""

# A host of lower-case labels whose last is a word (no number, which would be an IPv4 address), no port; then a path
# without dot segments, and only characters that need no encoding in path and query.
_PLAIN_ORIGIN = re.compile(r"https?://(?=[a-z0-9.-]{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}")
_PLAIN_PLACE = re.compile(r"/[A-Za-z0-9._~!$&()*+,;=:@/-]*(?:\?[A-Za-z0-9._~!$&()*+,;=:@/?-]*)?")
_SCHEMES = ("http://", "https://")
# Not after a stray `%`, of which an unreserved character would make another escape.
_ESCAPE = re.compile(r"(?<!%)(?<!%[0-9A-Fa-f])%([0-9A-Fa-f]{2})")
# Encodings whose pages send queries in UTF-8.
_UNICODE = frozenset({"utf-8", "utf-16", "utf-16-le", "utf-16-be"})
# What would end or split a host inside a URL.
_NO_HOST = re.compile(r"[/\\?#@:\s]")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class UrlParts(NamedTuple):
    """A parsed http(s) URL.

    Attributes:
        url: as the parser writes it, without fragment: pure ASCII.
        scheme: http or https.
        userinfo: name and password before the host, or empty.
        host: lower-case ASCII; an IPv6 address in brackets.
        port: as written, or empty for the scheme's.
    """

    url: str
    scheme: str
    userinfo: str
    host: str
    port: str


def parse_url(url: str) -> UrlParts | None:
    """Parse an absolute http(s) URL as a browser does; return None for anything else."""
    if is_plain(url):
        scheme, _, rest = url.partition("://")
        return UrlParts(url, scheme, "", rest.partition("/")[0], "")
    resolved = resolve(None, url)
    return None if resolved is None else _split(resolved)


def _split(url: str) -> UrlParts:
    """Split a URL that the parser wrote: the host ends at the first slash."""
    scheme, _, rest = url.partition("://")
    userinfo, _, place = rest.partition("/")[0].rpartition("@")
    host, colon, port = place.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = place, ""
    return UrlParts(url, scheme, userinfo, host, port)


def resolve(base: str | None, reference: str, *, encoding: str = "utf-8") -> str | None:
    """Return the absolute URL of a reference on a page, or None if it is not an http(s) URL.

    As a browser does: surrounding white space is trimmed, tabs and newlines inside are removed, backslashes become
    slashes, spaces and non-ASCII are percent-encoded, the host becomes lower-case ASCII (IDNA), dot segments are
    resolved. The fragment is dropped, since no server sees it.

    Args:
        base: URL of the page or its `<base href>`; None for references that must be absolute.
        reference: the value of the attribute; any string.
        encoding: Python's name of the page's encoding, in which a browser sends what is not ASCII in a query.
    """
    if len(reference) > MAX_URL_LENGTH:
        return None
    if base is None and is_plain(reference):
        return reference
    if not reference.isascii() and "?" in reference and encoding not in _UNICODE:
        reference = _with_query_in(encoding, reference)
    try:
        url: str = ada_url.join_url(base, reference) if base else ada_url.normalize_url(reference)
    except (ValueError, UnicodeError):
        return None
    if not url.startswith(_SCHEMES):
        return None
    url = url.partition("#")[0]
    return url if len(url) <= MAX_URL_LENGTH else None


def _with_query_in(encoding: str, reference: str) -> str:
    """Percent-encode what is not ASCII in the query; a letter that the encoding lacks becomes `&#NUMBER;`, encoded."""
    text, sharp, fragment = reference.partition("#")
    path, mark, query = text.partition("?")
    if query.isascii():
        return reference
    pieces = []
    for piece in re.split(r"([^\x00-\x7f]+)", query):
        if piece.isascii():
            pieces.append(piece)
            continue
        for letter in piece:
            try:
                pieces.append("".join(f"%{byte:02X}" for byte in letter.encode(encoding)))
            except UnicodeError:
                pieces.append(f"%26%23{ord(letter)}%3B")
    return f"{path}{mark}{''.join(pieces)}{sharp}{fragment}"


def is_plain(url: str) -> bool:
    """Return whether the parser would leave a URL unchanged: it does for most, and this test is cheap."""
    end = url.find("/", len("https://"))
    return (
        end > 0
        and _PLAIN_PLACE.fullmatch(url, end) is not None
        and _is_plain_origin(url[:end])
        and "xn--" not in url
        and ("/." not in url or "/." not in url[end:].partition("?")[0])
    )


@functools.lru_cache(maxsize=256)
def _is_plain_origin(origin: str) -> bool:
    return _PLAIN_ORIGIN.fullmatch(origin) is not None


def normalise_url(url: str) -> str:
    """Normalise a URL: URLs that name the same resource by the standards become equal strings.

    Scheme and host in lower case, host in ASCII (IDNA) and without a final dot, default port and fragment dropped, dot
    segments removed, an empty path made `/`, percent escapes of unreserved characters undone and the others in upper
    case. A string that is not an http(s) URL (`table:NAME#ROW`) is returned unchanged. Idempotent; never raises.
    """
    if is_plain(url):
        return url
    resolved = resolve(None, url)
    if resolved is None:
        return url
    if "%" in resolved:
        resolved = _ESCAPE.sub(_normal_escape, resolved)
    if "./" not in resolved and ".:" not in resolved:
        return resolved
    parts = _split(resolved)
    start = len(parts.scheme) + len("://") + (len(parts.userinfo) + 1 if parts.userinfo else 0)
    return resolved[:start] + without_final_dot(parts.host) + resolved[start + len(parts.host) :]


def url_hash(url: str) -> int:
    """Return xxh3-64 of a normalised URL, by which images are told apart."""
    return xxhash.xxh3_64_intdigest(normalise_url(url).encode())


def url_hashes(urls: Collection[str]) -> np.ndarray:
    """Return xxh3-64 of normalised URLs: uint64 (N,)."""
    return np.fromiter(map(url_hash, urls), np.uint64, len(urls))


def host_of(url: str) -> str:
    """Return the host of an http(s) URL in lower-case ASCII, without port or final dot; empty for anything else."""
    parts = parse_url(url)
    return "" if parts is None else without_final_dot(parts.host)


def without_final_dot(host: str) -> str:
    """Return a host without the dot that makes it absolute: `example.com.` is `example.com`."""
    return host[:-1] if host.endswith(".") and len(host) > 1 and host[-2] != "." else host


def normalise_host(name: str) -> str | None:
    """Return a host name or address, as a list may hold it, as in a URL: lower-case ASCII, without a final dot.

    An IPv6 address needs no brackets, and gets none. None if it is no host.
    """
    if ":" in name:
        name = f"[{name.strip('[]').partition('%')[0]}]"
    elif _NO_HOST.search(name):
        return None
    parts = parse_url(f"http://{name}/")
    return without_final_dot(parts.host).strip("[]") or None if parts is not None else None


def is_relative(reference: str) -> bool:
    """Return whether a reference depends on its page (a relative path or a missing scheme)."""
    return not reference.lstrip()[:8].lower().startswith(_SCHEMES)


def _normal_escape(match: re.Match[str]) -> str:
    character = chr(int(match.group(1), 16))
    return character if character in _UNRESERVED else match.group(0).upper()

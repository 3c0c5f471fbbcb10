"""Resolve URLs as browsers do, and normalise them so that equal resources have equal URLs.

Parsing follows the WHATWG URL Standard (https://url.spec.whatwg.org), with the Ada parser; normalisation adds the
percent-encoding rules of RFC 3986 section 6.2.2.
"""

import re

import ada_url

MAX_URL_LENGTH = 8192
"""Longer URLs are rejected: servers reject them too, and they are nearly always data in the wrong place."""

# A host of lower-case labels whose last is a word (no number, which would be an IPv4 address), no port, a path without
# dot segments, and only characters that need no encoding in path and query.
_PLAIN = re.compile(
    r"https?://(?=[a-z0-9.-]{1,253}/)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}"
    r"(?:/(?!\.)[A-Za-z0-9._~!$&()*+,;=:@-]*)+(?:\?[A-Za-z0-9._~!$&()*+,;=:@/?-]*)?"
)
_SCHEMES = ("http://", "https://")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def resolve(base: str | None, reference: str) -> str | None:
    """Return the absolute URL of a reference on a page, or None if it is not an http(s) URL.

    As a browser does: surrounding white space is trimmed, tabs and newlines inside are removed, backslashes become
    slashes, spaces and non-ASCII are percent-encoded, the host becomes lower-case ASCII (IDNA), dot segments are
    resolved. The fragment is dropped, since no server sees it.

    Args:
        base: URL of the page or its `<base href>`; None for references that must be absolute.
        reference: the value of the attribute; any string.
    """
    if len(reference) > MAX_URL_LENGTH:
        return None
    try:
        url: str = ada_url.join_url(base, reference) if base else ada_url.normalize_url(reference)
    except (ValueError, UnicodeError):
        return None
    if not url.startswith(_SCHEMES):
        return None
    url = url.partition("#")[0]
    return url if len(url) <= MAX_URL_LENGTH else None


def _is_plain(url: str) -> bool:
    """Return whether the parser would leave a URL unchanged: it does for most, and this test is cheap."""
    return _PLAIN.fullmatch(url) is not None and "xn--" not in url


def normalise_url(url: str) -> str:
    """Normalise a URL: URLs that name the same resource by the standards become equal strings.

    Scheme and host in lower case, host in ASCII (IDNA), default port and fragment dropped, dot segments removed,
    an empty path made `/`, percent escapes of unreserved characters undone and the others in upper case.
    A string that is not an http(s) URL (`table:NAME#ROW`) is returned unchanged. Idempotent; never raises.
    """
    if _is_plain(url):
        return url
    resolved = resolve(None, url)
    if resolved is None:
        return url
    return _ESCAPE.sub(_normal_escape, resolved) if "%" in resolved else resolved


def host_of(url: str) -> str:
    """Return the host of an http(s) URL in lower-case ASCII, without port; empty for anything else."""
    if _is_plain(url):
        return url.split("/", 3)[2]
    try:
        parsed = ada_url.URL(url)
    except (ValueError, UnicodeError):
        return ""
    return parsed.hostname if parsed.protocol in ("http:", "https:") else ""


def is_relative(reference: str) -> bool:
    """Return whether a reference depends on its page (a relative path or a missing scheme)."""
    return not reference.lstrip()[:8].lower().startswith(_SCHEMES)


def _normal_escape(match: re.Match[str]) -> str:
    character = chr(int(match.group(1), 16))
    return character if character in _UNRESERVED else match.group(0).upper()

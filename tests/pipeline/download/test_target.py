from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.download.target import BadUrlError, UnsupportedSchemeError, parse_target, redirect_target


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.com/a.jpg", "http://example.com/a.jpg"),
        ("HTTP://Example.COM/a.jpg#top", "http://example.com/a.jpg"),
        (" https://example.com ", "https://example.com/"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:8080/a?x=1&y=%20", "http://example.com:8080/a?x=1&y=%20"),
        ("http://example.com/a b.jpg", "http://example.com/a%20b.jpg"),
        ("http://example.com/ä.jpg", "http://example.com/%C3%A4.jpg"),
        ("http://example.com/100%.jpg", "http://example.com/100%25.jpg"),
        ("http://bücher.example/x", "http://xn--bcher-kva.example/x"),
        ("http://example.com./x", "http://example.com/x"),
        ("http://example.com/a/../private/./x", "http://example.com/private/x"),
        ("http://example.com/../../x/..", "http://example.com/"),
        ("http://[2001:DB8:0::1]:81/x", "http://[2001:db8::1]:81/x"),
        ('http://example.com/"<>', "http://example.com/%22%3C%3E"),
    ],
)
def test_urls_are_encoded_and_resolved(url: str, expected: str) -> None:
    assert parse_target(url).url == expected


def test_parts() -> None:
    target = parse_target("https://A.example:8443/x/y?q")
    assert (target.scheme, target.host, target.port) == ("https", "a.example", 8443)
    assert target.origin == "https://a.example:8443"
    assert target.robots_url == "https://a.example:8443/robots.txt"
    assert parse_target("http://[::1]/").origin == "http://[::1]:80"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "foo",
        "//example.com/x",
        "http://",
        "http:///x",
        "http://user:secret@example.com/",
        "http://exa mple.com/",
        "http://example.com:99999/",
        "http://example.com:x/",
        "http://ex\nample.com/",
        "http://a..b/",
        "http://" + "a" * 64 + ".com/",
        "http://[::1/",
        "http://[zz::1]/",
        "http://example.com/" + "x" * 9000,
        "http://example.com/\ud800",
        "http://\u2488.example/",
    ],
)
def test_what_cannot_be_requested_is_refused(url: str) -> None:
    with pytest.raises(BadUrlError):
        parse_target(url)


@pytest.mark.parametrize("url", ["ftp://x/", "file:///etc/passwd", "data:image/png;base64,AA", "javascript:void(0)"])
def test_other_schemes(url: str) -> None:
    with pytest.raises(UnsupportedSchemeError):
        parse_target(url)


def test_redirects() -> None:
    here = parse_target("https://example.com/a/b?c")
    assert redirect_target(here, b"../d").url == "https://example.com/d"
    assert redirect_target(here, b"//cdn.example/x").url == "https://cdn.example/x"
    assert redirect_target(here, "/ä".encode()).url == "https://example.com/%C3%A4"
    assert redirect_target(here, "/ä".encode("latin-1")).url == "https://example.com/%C3%A4"
    for bad in (b"", b"file:///etc/passwd", b"http://[", b"gopher://x/"):
        with pytest.raises(BadUrlError):
            redirect_target(here, bad)


@given(st.text(max_size=60))
def test_a_target_is_stable_ascii_or_refused(text: str) -> None:
    for url in (text, f"http://example.com/{text}", f"http://{text}/x", f"http://example.com/x?{text}"):
        try:
            target = parse_target(url)
        except BadUrlError:
            continue
        assert target.url.isascii()
        assert parse_target(target.url) == target
        assert urlsplit(target.url).hostname == target.host


@given(
    st.from_regex(r"https?://[a-z0-9-]{1,9}(\.[a-z0-9-]{1,9}){1,3}(:[0-9]{2,5})?/[a-z0-9/._-]{0,20}", fullmatch=True)
)
def test_the_short_cut_for_plain_urls_changes_nothing(url: str) -> None:
    try:
        # An upper-case scheme takes the long way.
        slow = parse_target(url.replace("http", "HTTP", 1))
    except BadUrlError:
        with pytest.raises(BadUrlError):
            parse_target(url)
        return
    assert parse_target(url) == slow

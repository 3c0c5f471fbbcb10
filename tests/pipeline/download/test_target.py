import csv
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.common.urls import host_of, normalise_url
from openwit.pipeline.download.target import BadUrlError, UnsupportedSchemeError, parse_target, redirect_target

CASES = Path(__file__).resolve().parents[2] / "data" / "cases"


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
        ("http://example.com/100%.jpg", "http://example.com/100%.jpg"),
        ("http://bücher.example/x", "http://xn--bcher-kva.example/x"),
        ("http://example.com./x", "http://example.com/x"),
        ("http://example.com/a/../private/./x", "http://example.com/private/x"),
        ("http://example.com/../../x/..", "http://example.com/"),
        ("http://[2001:DB8:0::1]:81/x", "http://[2001:db8::1]:81/x"),
        ('http://example.com/"<>', "http://example.com/%22%3C%3E"),
        ("http:///x", "http://x/"),
        ("http://ex\nample.com/", "http://example.com/"),
        ("http:\\\\h.example\\x.jpg", "http://h.example/x.jpg"),
        ("https:/h.example/x.jpg", "https://h.example/x.jpg"),
        ("http:h.example/x.jpg", "http://h.example/x.jpg"),
        ("http:///h.example/x.jpg", "http://h.example/x.jpg"),
        ("https://fa\u00df.example/x.jpg", "https://xn--fa-hia.example/x.jpg"),
        ("http://\u03b2\u03cc\u03bb\u03bf\u03c2.example/", "http://xn--nxasmm1c.example/"),
        ("http://\uff48\uff0e\uff45xample/", "http://h.example/"),
        ("http://h\u3002example/", "http://h.example/"),
        ("http://%68.example/%", "http://h.example/%"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://0177.0.0.1/", "http://127.0.0.1/"),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("http://127.1./", "http://127.0.0.1/"),
        ("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/"),
        ("http://@h.example:/x", "http://h.example/x"),
        ("http://h.example./x?", "http://h.example/x?"),
        ("http://h.example/a\tb\r\nc", "http://h.example/abc"),
        ("http://h.example/a\\b?c\\d", "http://h.example/a/b?c\\d"),
        ("http://h.example/%2e%2E/x/%2e", "http://h.example/x/"),
        ("\x00 http://h.example/ \x1f", "http://h.example/"),
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
        "http://user:secret@example.com/",
        "http://exa mple.com/",
        "http://example.com:99999/",
        "http://example.com:x/",
        "http://a..b/",
        "http://" + "a" * 64 + ".com/",
        "http://[::1/",
        "http://[zz::1]/",
        "http://example.com/" + "x" * 9000,
        "http://example.com/\ud800",
        "http://\u2488.example/",
        "http://256.1.1.1/",
        "http://h.0x4/",
        "http://1.2.3.4.5/",
        "http://a%2fb.example/",
        "http://*:80:127.0.0.1/",
        "http://a*b.example/",
        "http://h.example:65536/",
        "http://[fe80::1%25eth0]/",
        "http://a.example@b.example/x",
        "h.example/x.jpg",
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
    assert redirect_target(here, b"http:///cdn.example/x").url == "http://cdn.example/x"
    assert redirect_target(here, b"https:///cdn.example/x").url == "https://cdn.example/x"
    assert redirect_target(here, b"https:x").url == "https://example.com/a/x"  # of the same scheme: relative
    assert redirect_target(here, b"http:x").url == "http://x/"
    assert redirect_target(here, b"\\\\cdn.example\\x").url == "https://cdn.example/x"
    assert redirect_target(here, b"/\t/cdn.example/x").url == "https://cdn.example/x"
    assert redirect_target(here, "https://fa\u00df.example/".encode()).host == "xn--fa-hia.example"
    assert redirect_target(here, b"?d").url == "https://example.com/a/b?d"
    assert redirect_target(here, b"#top").url == "https://example.com/a/b?c"
    for bad in (b"", b" ", b"file:///etc/passwd", b"http://[", b"gopher://x/", b"http://me@h.example/", b"x" * 9000):
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


HOST = st.sampled_from(
    ["h.example", "H.Example.", "fa\u00df.example", "xn--fa-hia.example", "0x7f.1", "[::1]", "[::FFFF:1.2.3.4]",
     "h\u3002b", "%68.example", "a_b.example", "1.2.3", "b\u00fccher.example.", "localhost"]
)  # fmt: skip
PIECES = st.lists(
    st.sampled_from(
        ["/", "\\", "a", "%", "%41", "%7e", "%%34%31", "%4%31", "..", "%2E", "?", "#", "\u00e9", " ", "\t", "|", "&"]
    ),
    max_size=8,
).map("".join)


@given(st.sampled_from(["http:", "HTTPS:", " http:"]), st.sampled_from(["//", "/", "", "///", "\\\\"]), HOST, PIECES)
def test_a_url_is_asked_at_the_host_that_its_identity_names(scheme: str, slashes: str, host: str, rest: str) -> None:
    url = f"{scheme}{slashes}{host}/{rest}"
    target, identity = parse_target(url), normalise_url(url)
    assert parse_target(identity)._replace(url="") == target._replace(url="")
    assert host_of(url) == host_of(target.url) == host_of(identity)
    assert host_of(identity).strip("[]") == target.host
    assert normalise_url(target.url) == identity == normalise_url(identity)
    assert redirect_target(parse_target("http://elsewhere.example/"), url.encode()).host in (
        target.host,
        "elsewhere.example",
    )


def test_odd_urls_of_a_table_go_where_a_browser_goes() -> None:
    rows = csv.DictReader((CASES / "table-odd-urls" / "pairs.tsv").open(newline=""), delimiter="\t")
    wanted = [
        "http://h.example/x.jpg",
        "http://h.example/x.jpg",
        "https://xn--fa-hia.example/x.jpg",
        None,
        None,
        "https://h.example/lead.jpg",
        "https://h.example/x.jpg",
    ]
    for row, expected in zip(rows, wanted, strict=True):
        if expected is None:
            with pytest.raises(BadUrlError, match="not absolute"):
                parse_target(row["url"])
        else:
            assert parse_target(row["url"]).url == expected


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

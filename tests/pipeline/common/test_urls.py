import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openwit.pipeline.common import urls
from openwit.pipeline.common.urls import MAX_URL_LENGTH, host_of, is_relative, normalise_host, normalise_url, resolve

PAGE = "https://example.com/a/b/page.html?q=1#top"

URL_LIKE = st.text(alphabet="htps:/\\.?#[]@%2eE7f~ab \t\n\u00e9\u4e2d0", max_size=40)
ANY_REFERENCE = st.one_of(st.text(max_size=60), URL_LIKE, URL_LIKE.map(lambda tail: "http://h.example/" + tail))


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("x.jpg", "https://example.com/a/b/x.jpg"),
        ("/x.jpg", "https://example.com/x.jpg"),
        ("../x.jpg", "https://example.com/a/x.jpg"),
        ("../../../../x.jpg", "https://example.com/x.jpg"),
        ("?size=2", "https://example.com/a/b/page.html?size=2"),
        ("", "https://example.com/a/b/page.html?q=1"),
        ("//cdn.example.org/x.jpg", "https://cdn.example.org/x.jpg"),
        ("  \n x.jpg\t ", "https://example.com/a/b/x.jpg"),
        ("/a\n/b\tc.jpg", "https://example.com/a/bc.jpg"),
        ("my photo.jpg", "https://example.com/a/b/my%20photo.jpg"),
        ("caf\u00e9.jpg?\u00fc=1", "https://example.com/a/b/caf%C3%A9.jpg?%C3%BC=1"),
        ("x.jpg#part", "https://example.com/a/b/x.jpg"),
        ("http:\\\\other.example\\x.jpg", "http://other.example/x.jpg"),
        ("HTTP://OTHER.example:80/x", "http://other.example/x"),
        ("https:x.jpg", "https://example.com/a/b/x.jpg"),
        ("http://b\u00fccher.example/x", "http://xn--bcher-kva.example/x"),
        ("data:image/gif;base64,R0lGODlh", None),
        ("javascript:void(0)", None),
        ("mailto:a@b.example", None),
        ("ftp://example.com/x.jpg", None),
        ("file:///etc/passwd", None),
        ("http://", None),
        ("http://[::1", None),
        ("http://exa mple.com/", None),
        ("http://example.com:99999/", None),
    ],
)
def test_resolves_as_a_browser(reference: str, expected: str | None) -> None:
    assert resolve(PAGE, reference) == expected


@pytest.mark.parametrize(
    ("encoding", "reference", "expected"),
    [
        ("cp1252", "/caf\u00e9.jpg?n=caf\u00e9#\u00e9", "https://example.com/caf%C3%A9.jpg?n=caf%E9"),
        ("cp1252", "?n=\u4e2d!", "https://example.com/a/b/page.html?n=%26%2320013%3B!"),
        ("gb18030", "x?\u4e2d\u00e9", "https://example.com/a/b/x?%D6%D0%A8%A6"),
        ("utf-16-le", "x?\u00e9", "https://example.com/a/b/x?%C3%A9"),
        ("utf-8", "x?\u00e9", "https://example.com/a/b/x?%C3%A9"),
        ("cp1252", "x#?\u00e9", "https://example.com/a/b/x"),
    ],
)
def test_a_query_is_sent_in_the_encoding_of_its_page(encoding: str, reference: str, expected: str) -> None:
    assert resolve(PAGE, reference, encoding=encoding) == expected


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("Fa\u00df.Example.", "xn--fa-hia.example"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("0x7f.1", "127.0.0.1"),
        ("a/b", None),
        ("a b", None),
        ("me@h", None),
        ("", None),
        ("zz::1::", None),
    ],
)
def test_a_host_on_a_list_is_read_as_in_a_url(name: str, host: str | None) -> None:
    assert normalise_host(name) == host


def test_resolve_without_a_usable_base() -> None:
    assert resolve(None, "x.jpg") is None
    assert resolve("not a url", "x.jpg") is None
    assert resolve(None, "http://a.example/x") == "http://a.example/x"


def test_refuses_urls_that_are_too_long() -> None:
    assert resolve(PAGE, "x" * (MAX_URL_LENGTH + 1)) is None
    assert resolve(PAGE, "\u00e9" * (MAX_URL_LENGTH // 2)) is None  # grows past the limit by percent-encoding


@pytest.mark.parametrize(
    "same",
    [
        [
            "http://Example.COM",
            "http://example.com/",
            "http://example.com:80/",
            "http://example.com/#x",
            "HTTP://example.com",
        ],
        ["https://a.example/b/../c", "https://a.example/c", "https://a.example:443/./c", "https://a.example/%63"],
        ["http://a.example/%7euser/%e9", "http://a.example/~user/%E9", "http://a.example/%7Euser/%E9"],
        ["http://a.example./x", "http://a.example/x", "http:///A.example.:80/x", "http:\\\\a.example/x"],
        ["http://fa\u00df.example/", "http://xn--fa-hia.example/", "http://fa\u1e9e.example/"],
        ["http://b\u00fccher.example/", "http://xn--bcher-kva.example/", "http://B\u00dcCHER.example"],
    ],
)
def test_spellings_of_one_resource_have_one_form(same: list[str]) -> None:
    assert len({normalise_url(url) for url in same}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://a.example/x", "https://a.example/x"),
        ("http://a.example/x", "http://a.example/X"),
        ("http://a.example/x?a=1", "http://a.example/x?a=2"),
        ("http://a.example/a%2Fb", "http://a.example/a/b"),
        ("http://a.example/x", "http://a.example:8080/x"),
        ("table:photos#1", "table:photos#2"),
        ("http://fa\u00df.example/", "http://fass.example/"),
        ("http://a.example/%%34%31", "http://a.example/%41"),
    ],
)
def test_different_resources_stay_different(one: str, other: str) -> None:
    assert normalise_url(one) != normalise_url(other)


def test_what_is_no_web_url_is_left_alone() -> None:
    assert normalise_url("table:photos.parquet#17") == "table:photos.parquet#17"
    assert normalise_url("") == ""


@given(ANY_REFERENCE)
@example("http://a.example/%2e%2E/%252e/%")
@example("http://a.example/\ud800")
@example("http://a.example/%%34%31")
@example("http://a.example/%4%31")
@example("http://a.@b./")
def test_normalising_is_idempotent(url: str) -> None:
    once = normalise_url(url)
    assert normalise_url(once) == once


@given(ANY_REFERENCE)
def test_resolving_gives_absolute_urls_that_resolve_to_themselves(reference: str) -> None:
    url = resolve(PAGE, reference)
    if url is not None:
        assert url.startswith(("http://", "https://"))
        assert url.isascii()
        assert "#" not in url
        assert not any(character.isspace() for character in url)
        assert resolve("https://elsewhere.example/", url) == url
        assert host_of(url)


@given(ANY_REFERENCE)
def test_an_absolute_url_does_not_depend_on_the_base(reference: str) -> None:
    absolute = resolve(None, reference)
    if absolute is not None and not is_relative(reference):
        assert resolve("http://elsewhere.example/x/", reference) == absolute


@given(st.text())
def test_no_string_raises(text: str) -> None:
    assert isinstance(normalise_url(text), str)
    assert isinstance(host_of(text), str)
    assert isinstance(is_relative(text), bool)
    resolve(text, text)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://Example.com:8080/x", "example.com"),
        ("https://user:secret@a.example/", "a.example"),
        ("http://[::1]:80/", "[::1]"),
        ("http://0x7f.1/", "127.0.0.1"),
        ("table:a#1", ""),
        ("data:image/gif,x", ""),
        ("", ""),
    ],
)
def test_host_of(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    ("reference", "relative"),
    [("x.jpg", True), ("//a.example/x", True), ("/x", True), (" HTTPS://a.example", False), ("http://a", False)],
)
def test_is_relative(reference: str, relative: bool) -> None:
    assert is_relative(reference) is relative


PARTS = st.lists(
    st.sampled_from(
        ["http://", "https://", "HTTP://", "a.org", "A.org", "xn--a", "1.2.3.4", "0x7f.1", "x.1", "a-b.example",
         "-a.org",
         "/", "//", "/.", "/..", "/../", "/.a", "a.jpg", "?", "#", ":80", ":443", "@", "'", "%41", "%2f", " ", "\t",
         "\n",
         "\\", "é", "|", "{", "=", "&", ";", ".", "..", "x" * 70, "_"]
    ),
    max_size=9,
).map("".join)  # fmt: skip


PLAIN = st.tuples(
    st.from_regex(urls._PLAIN_ORIGIN, fullmatch=True), st.from_regex(urls._PLAIN_PLACE, fullmatch=True)
).map("".join)


@given(PARTS | PLAIN)
@example("http://a.org:80@evil.org/")
@example("http://a.org\n.evil.org/")
@example("https://a.org/x/../y")
def test_the_short_way_for_plain_urls_changes_nothing(url: str) -> None:
    fast = normalise_url(url), host_of(url), resolve(None, url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urls, "is_plain", lambda _: False)
        assert fast == (normalise_url(url), host_of(url), resolve(None, url))

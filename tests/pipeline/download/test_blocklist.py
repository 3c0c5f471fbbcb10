"""Lists of domains that are not contacted."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.download.blocklist import load_blocklist
from openwit.schemas.common.errors import OpenWITError

LABEL = st.text("abcxyz0-9", min_size=1, max_size=5).map(lambda s: f"a{s}b")
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


def listed(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_blocklist(path)


def test_a_domain_stands_for_what_lies_below_it(tmp_path):
    blocked = listed(tmp_path, "# a comment\n\nexample.org\nads.example.com # why\n")
    assert len(blocked) == 2
    assert blocked.match("example.org") == "example.org"
    assert blocked.match("deep.sub.example.org") == "example.org"
    assert blocked.match("ads.example.com") == "ads.example.com"
    for host in ("notexample.org", "example.com", "org", "example.org.evil.net", ""):
        assert blocked.match(host) is None


@pytest.mark.parametrize(
    ("line", "host"),
    [
        ("0.0.0.0 ads.example.org", "ads.example.org"),
        ("127.0.0.1\tads.example.org\tb.example.org # two names", "b.example.org"),
        ("::1 ads.example.org", "ads.example.org"),
        ("fe80::1%lo0 ads.example.org", "ads.example.org"),
        ("*.example.org", "a.example.org"),
        (".Example.ORG.", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("under_score.example.org", "under_score.example.org"),
        ("10.1.2.3", "10.1.2.3"),
        ("2001:DB8::1", "2001:db8::1"),
        ("museum", "art.museum"),
    ],
)
def test_forms_of_a_line(tmp_path, line, host):
    assert listed(tmp_path, line).match(host) is not None
    assert listed(tmp_path, gzip.compress(line.encode())).match(host) is not None
    assert listed(tmp_path, b"\xef\xbb\xbf" + line.encode() + b"\r\n").match(host) is not None


def test_an_address_lies_below_nothing(tmp_path):
    assert listed(tmp_path, "3\n2.3\n").match("10.1.2.3") is None


def test_an_empty_list_blocks_nothing(tmp_path):
    assert listed(tmp_path, "# nothing\n").match("example.org") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.org\nhttp://b.org/\n", "line 2 of .*: 'http://b.org/' is not a domain"),
        ("a..org", "line 1 of .* is not a domain"),
        ("a.org b.org", "line 1 of .* holds neither one domain nor a line of a hosts file"),
        ("*", "line 1 of .* is not a domain"),
        (b"\x1f\x8b\x08broken", "cannot be read"),
        (gzip.compress(b"a.org\n" * 99, mtime=0)[:-9], "cannot be read"),
        (b"PAR1\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_bad_lists(tmp_path, text, message):
    with pytest.raises(OpenWITError, match=message):
        listed(tmp_path, text)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(OpenWITError, match="gone.txt does not exist"):
        load_blocklist(tmp_path / "gone.txt")


@given(st.sets(DOMAIN, max_size=8), DOMAIN)
def test_blocked_is_what_is_listed_or_ends_in_dot_listed(tmp_path_factory, domains, host):
    blocked = listed(tmp_path_factory.mktemp("b"), "\n".join(sorted(domains)))
    expected = any(host == domain or host.endswith(f".{domain}") for domain in domains)
    assert (blocked.match(host) is not None) is expected

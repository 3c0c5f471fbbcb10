import gzip

import pytest

from openwit.pipeline.dataset.removal_list import load_removal_list
from openwit.schemas.common.errors import OpenWITError

SHA, PHASH = "ab" * 32, "0123456789abcdef"


def listed(tmp_path, text, name="list.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_removal_list(path)


def test_lines_are_known_by_their_shape(tmp_path):
    text = f"""# opted out in May
https://a.org/Cat.jpg#top   # by mail
{SHA.upper()}
{PHASH}

*.Bücher.example
sub.b.org
table:birds#3
"""
    found = listed(tmp_path, text)
    assert set(found.words) == {2, 3, 4, 6, 7, 8}
    assert found.matches("https://a.org/Cat.jpg") == [("url", "https://a.org/Cat.jpg")]
    assert found.matches("https://a.org/cat.jpg") == []
    assert found.matches("http://x.org/", SHA, PHASH) == [("sha256", SHA), ("phash", PHASH)]
    assert found.matches("http://img.xn--bcher-kva.example/1") == [("domain", "xn--bcher-kva.example")]
    assert found.matches("http://b.org/1") == []
    assert found.matches("http://sub.b.org:8080/1") == [("domain", "sub.b.org")]
    assert found.matches("http://notsub.b.org.evil/1") == []
    assert found.matches("table:birds#3") == [("url", "table:birds#3")]


def test_a_packed_list_is_the_same_list(tmp_path):
    plain = listed(tmp_path, f"\ufeffb.org\r\n{SHA}\n")
    packed = listed(tmp_path, gzip.compress(f"\ufeffb.org\r\n{SHA}\n".encode()), "list.gz")
    assert (plain.sha256, plain.words) == (packed.sha256, packed.words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b.org\nnonsense\n", "line 2, 'nonsense', is neither a URL"),
        (f"{SHA[:-1]}\n", "line 1, "),
        ("a b.org\n", "line 1, 'a b.org'"),
        ("a..b\n", "line 1"),
        ("# nothing\n\n", "is empty"),
        (b"PAR1\x00\x01", "is not a text file"),
        (b"\x1f\x8b\x08broken", "cannot be read"),
    ],
)
def test_a_line_that_names_nothing_is_said(tmp_path, text, message):
    with pytest.raises(OpenWITError, match=message):
        listed(tmp_path, text)


def test_a_missing_list_is_said(tmp_path):
    with pytest.raises(OpenWITError, match="does not exist"):
        load_removal_list(tmp_path / "gone.txt")

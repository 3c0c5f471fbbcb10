"""Unicode's encodings are recognised with and without a mark, and nothing else is taken for them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openwit.schemas.common.charset.unicode import _LONG_BYTES, is_utf8, marked_codec, wide_codec

WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
TEXTS = ["url,text\nhttp://a.example/1,a red house\n", "запрос\tссылка\nкрасный дом у моря\n" * 3, '{"a": "é"}\n' * 2]


@pytest.mark.parametrize("codec", WIDE)
@pytest.mark.parametrize("text", TEXTS)
def test_wide_text_without_a_mark(codec, text):
    assert wide_codec(text.encode(codec)) == (codec, 0)


@pytest.mark.parametrize("codec", WIDE)
def test_a_mark_decides(codec):
    data = "\ufeffx".encode(codec)
    assert marked_codec(data) == wide_codec(data) == (codec, len("\ufeff".encode(codec)))


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "cp1252", "cp1251", "gb18030", "euc_jp"])
@pytest.mark.parametrize("text", ["a red house by the sea", "é" * 20])
def test_other_text_is_not_wide(codec, text):
    assert wide_codec(text.encode(codec, "ignore")) == (None, 0)


@given(st.binary(max_size=80))
def test_validity_is_that_of_the_codec(data):
    assert is_utf8(data) == (data.decode("utf-8", "replace").encode("utf-8", "surrogatepass") == data)


@given(st.binary(max_size=6) | st.text(max_size=4).map(str.encode))
@example(b"\xed\xa0\x80")
@example(b"\xc0\xaf")
@example(b"\xf4\x90\x80\x80")
@example(b"\xe2\x82")
def test_long_bytes_are_checked_as_short_ones(data):
    padding = b"a" * _LONG_BYTES
    assert is_utf8(data) == is_utf8(padding + data) == is_utf8(data + b"." + padding)

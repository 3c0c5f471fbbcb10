import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.schemas.common.html_text import unescape


@given(st.lists(st.sampled_from(["&", "#", "x", "6", "0", "amp", ";", "65", " ", "zz", "1114112"])).map("".join))
def test_it_is_html_unescape(text: str) -> None:
    assert unescape(text) == html.unescape(text)


@pytest.mark.parametrize("digits", [4_299, 4_300, 4_301, 100_000])
def test_a_number_of_any_length(digits: int) -> None:
    assert unescape("a &#" + "9" * digits + "; &amp; b") == "a \ufffd & b"
    assert unescape("&#x" + "f" * digits + ";") == "\ufffd"
    assert unescape("&#" + "0" * digits + "65; &#66;") == "A B"
    assert unescape("&#" + "0" * digits + "65&#" + "1" * digits) == "A\ufffd"

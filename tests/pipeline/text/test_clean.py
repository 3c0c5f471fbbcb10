import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openwit.pipeline.text.clean import clean_text

MESSY = st.text(alphabet="a&;#x3m plt<>/b\u0301\u200d\u200b\u212a\u037e\u00e9\u2000\n\u202e\ud800\ue000", max_size=30)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a cat on a mat", "a cat on a mat"),
        ("  a\n\tcat  \r\n on\u00a0a\u3000mat ", "a cat on a mat"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Tom &amp;amp; Jerry", "Tom & Jerry"),
        ("caf&eacute; &#8211; bar &#x2014; &quot;x&quot;", 'caf\u00e9 \u2013 bar \u2014 "x"'),
        ("AT&T, R&D; &copy 2020, &nosuchentity;", "AT&T, R&D; &copy 2020, &nosuchentity;"),
        ("&lt;b&gt;bold&lt;/b&gt;, &lt;EM class='x'&gt;so&lt;/em&gt;<br/>next<p>one", "bold, so next one"),
        ("a < b > c, <3, <html>, 1<a and b>2", "a < b > c, <3, <html>, 1<a and b>2"),
        ("nul\x00 bell\x07 del\x7f c1\x9f", "nul bell del c1"),
        ("zero\u200bwidth soft\u00adhyphen \ufeffbom", "zerowidth softhyphen bom"),
        ("\u202eevil\u202c \u2066x\u2069 \u200ftext", "evil x text"),
        ("cafe\u0301", "caf\u00e9"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 family", "\U0001f468\u200d\U0001f469\u200d\U0001f467 family"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("a\u200db c\u200cd \u200d", "ab cd"),
        ("icon \ue001 font", "icon font"),
        ("broken \ud83d surrogate", "broken surrogate"),
        ("what\ufffd", "what"),
        ("&#0; &#xD800; &#x110000;", ""),
        ("", ""),
        (" \u200b\u2800 ", ""),
    ],
)
def test_cleans(raw: str, cleaned: str) -> None:
    assert clean_text(raw) == cleaned


@given(st.one_of(st.text(), MESSY, MESSY.map(lambda text: text.replace("&", "&amp;"))))
@example("&am\u200bp;lt;")
@example("&hellip\u037e")
@example("\u212a\u200d\u00e9")
@example("e\u200d\u0301")
def test_idempotent_and_normal(raw: str) -> None:
    text = clean_text(raw)
    assert clean_text(text) == text
    assert unicodedata.is_normalized("NFC", text)
    assert text == " ".join(text.split())
    text.encode("utf-8")
    assert not any(
        unicodedata.category(character) in ("Cc", "Cs", "Co") and ord(character) < 0xF900 for character in text
    )


@given(st.text(alphabet=st.characters(whitelist_categories=("Ll", "Lu", "Nd")), min_size=1))
def test_letters_and_digits_survive(word: str) -> None:
    assert clean_text(word) == unicodedata.normalize("NFC", word)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.readers.pages.charset import codec_of, to_utf8

RUSSIAN = "<html><head>{meta}</head><body>" + "Привет, мир. Это обычная русская страница. " * 20 + "</body></html>"


def text_of(body: bytes, header: str | None = None) -> str:
    decoded = to_utf8(body, header)
    return decoded if isinstance(decoded, str) else decoded.decode()


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("UTF-8", "utf-8"),
        ("utf8", "utf-8"),
        ("latin1", "cp1252"),
        ("iso-8859-1", "cp1252"),
        ("us-ascii", "cp1252"),
        ("GB2312", "gb18030"),
        ("Shift_JIS", "cp932"),
        ("x-sjis", "cp932"),
        ("EUC-KR", "cp949"),
        ("windows-1251", "cp1251"),
        ("koi8-r", "koi8-r"),
        ("utf-16", "utf-8"),
        ("iso88592", "iso8859-2"),
        ("x-cp1253", "cp1253"),
        ("koi8-ru", "koi8-u"),
        ("logical", "iso8859-8"),
        ("csEUCKR", "cp949"),
        ("gb_2312-80", "gb18030"),
        ("unicode11utf8", "utf-8"),
        ("utf-7", None),
        ("idna", None),
        ("rot13", None),
        ("base64", None),
        ("no-such", None),
        ("\x00", None),
        ("", None),
        (None, None),
    ],
)
def test_labels_mean_what_browsers_take_them_for(label: str | None, codec: str | None) -> None:
    assert codec_of(label) == codec


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "utf-8", "iso8859-5"])
def test_header_and_meta_are_followed(encoding: str) -> None:
    text = RUSSIAN.format(meta="")
    assert text_of(text.encode(encoding), encoding) == text
    for meta in (f"<meta charset={encoding}>", f'<META content="text/html; charset={encoding}" http-equiv=x>'):
        text = RUSSIAN.format(meta=meta)
        assert text_of(text.encode(encoding)) == text


def test_the_header_goes_before_meta() -> None:
    text = RUSSIAN.format(meta="<meta charset=koi8-r>")
    assert text_of(text.encode("cp1251"), "windows-1251") == text


@pytest.mark.parametrize(
    ("bom", "codec"),
    [
        (b"\xef\xbb\xbf", "utf-8"),
        (b"\xff\xfe", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be"),
        (b"\xff\xfe\0\0", "utf-32-le"),
        (b"\0\0\xfe\xff", "utf-32-be"),
    ],
)
def test_a_byte_order_mark_goes_before_all(bom: bytes, codec: str) -> None:
    text = RUSSIAN.format(meta="<meta charset=koi8-r>")
    assert text_of(bom + text.encode(codec), "windows-1251") == text


def test_valid_utf8_is_utf8_whatever_is_declared() -> None:
    text = RUSSIAN.format(meta="<meta charset=iso-8859-1>")
    assert to_utf8(text.encode(), "iso-8859-1") == text.encode()


def test_escape_coded_japanese_is_not_taken_for_ascii() -> None:
    text = "<meta charset=iso-2022-jp>日本語の文章"
    assert text_of(text.encode("iso2022_jp")) == text


def test_one_wrong_byte_does_not_change_the_encoding() -> None:
    body = RUSSIAN.format(meta="").encode()
    assert text_of(body[:100] + b"\xff" + body[100:]).count("Привет") == 20
    assert "Привет" in text_of(body[: len(body) // 2 + 1], "utf-8")  # cut inside a character


def test_a_false_claim_of_utf8_is_not_believed() -> None:
    text = RUSSIAN.format(meta="<meta charset=windows-1251>")
    assert text_of(text.encode("cp1251"), "utf-8") == text


def test_undeclared_bytes_are_detected_or_western() -> None:
    text = RUSSIAN.format(meta="")
    assert "Привет" in text_of(text.encode("cp1251"))
    assert text_of(b"caf\xe9 \x93quoted\x94") == "caf\u00e9 \u201cquoted\u201d"


@given(
    st.binary(max_size=300), st.one_of(st.none(), st.text(max_size=10), st.sampled_from(["utf-8", "gbk", "utf-16"]))
)
def test_no_bytes_and_no_label_fail(body: bytes, label: str | None) -> None:
    text_of(body, label).encode()
    text_of(b"<meta charset=" + body, label).encode()


def test_where_nothing_is_declared_the_language_of_the_page_is_evidence() -> None:
    notes: list[str] = []

    def note(reason: str, n: int = 1, detail: str = "") -> None:  # noqa: ARG001
        notes.append(reason)

    for language, text, codec in (
        ("es", "El ni\u00f1o", "cp1252"),
        ("pl", "Gda\u0144sk \u015bcie\u017cka", "iso8859-2"),
        ("he", "\u05d1\u05d9\u05ea \u05d9\u05e9\u05df", "cp1255"),
        ("ja", "\u53e4\u3044\u5bb6", "euc_jp"),
    ):
        page = f"<html lang={language}><title>{text}</title>"
        body = page.encode(codec)
        decoded = to_utf8(body, url=f"http://site.{language}/", count=note)
        assert decoded == page
    assert notes == ["charset_detected"] * 4


def test_a_declaration_that_the_bytes_contradict_is_counted() -> None:
    notes: list[str] = []
    body = RUSSIAN.format(meta="").encode("cp1251")
    assert "Привет" in str(to_utf8(body, "utf-8", count=lambda reason, *_: notes.append(reason)))
    assert notes == ["charset_wrong"]


def test_a_declaration_in_a_comment_is_none() -> None:
    text = RUSSIAN.format(meta="<!-- <meta charset=koi8-r> -->")
    assert text_of(text.encode("cp1251")) == text


@pytest.mark.parametrize(
    "meta",
    [
        '<meta name="description" content="what charset=koi8-r means"><meta charset=windows-1251>',
        "<meta name=a content='a > b' charset='windows-1251'>",
        '<meta charset="no-such"><meta charset="x-cp1251">',
        '<META HTTP-EQUIV="Content-Type"\nCONTENT="text/html;charset=windows-1251"/>',
        "<meta/charset=windows-1251>",
        '<?xml version="1.0" encoding="windows-1251"?>',
    ],
)
def test_a_declaration_is_an_attribute_and_not_a_description(meta: str) -> None:
    text = meta + RUSSIAN.format(meta="")
    assert text_of(text.encode("cp1251")) == text
    notes: list[str] = []
    to_utf8(text.encode("cp1251"), count=lambda reason, *_: notes.append(reason))
    assert notes == []

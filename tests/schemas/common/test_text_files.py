"""Every charset of text inputs is detected, and what was guessed or lost is said."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.schemas.common.charset.unicode import wide_codec
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.text_files import Utf8Stream, decode_text, read_text

TEXT = "Crème brûlée\nein Mädchen mit Hut\n"


@pytest.mark.parametrize(
    "codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "cp1252"]
)
def test_charsets(codec, tmp_path):
    decoded = decode_text(TEXT.encode(codec))
    assert (decoded.text, decoded.lost) == (TEXT, 0)
    assert decoded.guessed == (codec in ("utf-16-le", "utf-16-be", "utf-32-be", "cp1252"))
    (tmp_path / "t.txt").write_bytes(TEXT.encode(codec))
    said = []
    assert read_text(tmp_path / "t.txt", say=said.append) == TEXT
    assert len(said) == decoded.guessed


def test_what_is_lost_is_counted():
    decoded = decode_text("ab".encode("utf-16") + b"\x00\xd8")
    assert decoded.lost == 1
    assert decoded.note() == "1 character could not be decoded"


@pytest.mark.parametrize("data", [b"PK\x03\x04\x00\x00\x01", b"\x00\x00\x00\x01abcdefgh"])
def test_what_is_no_text_is_one_sentence(data, tmp_path, caplog):
    (tmp_path / "t.txt").write_bytes(data)
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match="t.txt is not a text file$"):
        read_text(tmp_path / "t.txt")


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200),
    st.sampled_from(["utf-16", "utf-32"]),
    st.integers(1, 9),
)
def test_a_stream_is_transcoded_whole(text, codec, size):
    data = text.encode(codec)
    wide, mark = wide_codec(data)
    assert wide is not None
    lost: list[int] = []
    stream = Utf8Stream(io.BytesIO(data), wide, mark, lost.append)
    assert io.BufferedReader(stream, size).read() == text.encode()
    assert lost == ([text.count("\ufffd")] if "\ufffd" in text else [])


@given(st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=8))
def test_wide_text_without_a_mark_is_recognised(text):
    for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        assert decode_text(text.encode(codec)).text == text
    assert decode_text(text.encode()).text == text


SENTENCES = {
    "cp1251": "Красная площадь и собор Василия Блаженного зимой",
    "cp1250": "Zażółć gęślą jaźń, stary młyn nad rzeką",
    "euc_jp": "富士山と桜の花が咲く春の風景",
    "cp949": "봄에 벚꽃이 핀 오래된 궁궐",
    "gb18030": "春天的长城和盛开的桃花",
    "cp1253": "Το παλιό λιμάνι με τις βάρκες το πρωί",
}


@pytest.mark.parametrize("codec", SENTENCES)
def test_charsets_of_other_scripts_are_detected(codec):
    text = f"{SENTENCES[codec]}\n" * 3
    decoded = decode_text(text.encode(codec))
    assert (decoded.text, decoded.guessed, decoded.lost) == (text, True, 0)


def test_western_without_the_profiles_of_languages(monkeypatch):
    from openwit.schemas.common.charset import models

    models.letter_model.cache_clear()
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda _: None)
    try:
        assert decode_text("café au lait".encode("cp1252")).codec == "cp1252"
    finally:
        models.letter_model.cache_clear()

import json
import pickle
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.stages.meanings import meanings
from openwit.pipeline.text.filters import (
    TEXT_REASONS,
    TextContext,
    TextFilter,
    build_asked_filters,
    build_filters,
    drop_reason,
)
from openwit.pipeline.text.filters.adult_words import WordList, adult_word_filter, read_word_list
from openwit.pipeline.text.filters.boilerplate_entries import BOILERPLATE
from openwit.pipeline.text.settings import TextFilterSettings
from openwit.schemas.common.errors import OpenWITError

SETTINGS = TextFilterSettings()


@cache
def filters_of(settings: TextFilterSettings) -> list[TextFilter]:
    return build_filters(settings)


def text_reason(text: str, settings: TextFilterSettings) -> str | None:
    return drop_reason(text, filters_of(settings))


@pytest.mark.parametrize(
    "text",
    [
        "A dog runs over the grass.",
        "Cat",
        "東京",
        "猫",
        "개",
        "ox",
        "VW",
        "cat",
        "house",
        "star",
        "clock",
        "S 500",
        "Tom Kha Soup.png",
        "Booking.com",
        "고양이",
        "BMW M3 (2015)",
        "Apollo 11",
        "iPhone 12 Pro",
        "Photo of the Eiffel Tower at night",
        "Logo of the Olympic Games 1936",
        "Diagram of the human heart with labels.svg",
        "node.js in action",
        "Visit us at www.example.com for fresh bread every day of the week",
        "Wow... so cool!!!",
        "Row, row, row your boat",
        "Beach",
        "1984 by George Orwell",
        "P. D. James",
        "No. 5, Chanel",
        "Screenshot of the main menu",
        "café",
        "Привет, мир",
    ],
)
def test_texts_that_say_something_stay(text: str) -> None:
    assert text_reason(text, SETTINGS) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "too_short"),
        ("x", "too_short"),
        (":)", "too_short"),
        ("word " * 300, "too_long"),
        ("12345", "no_letters"),
        ("-----", "no_letters"),
        ("♥ ♥ ♥", "no_letters"),
        ("IMG_1234.JPG", "file_name"),
        ("photo.jpeg", "file_name"),
        ("my dog.png", "file_name"),
        ("Hotel_Adlon_Berlin front view 2.jpg", "file_name"),
        ("DSC08088", "file_name"),
        ("IMG 4604", "file_name"),
        ("P1100427", "file_name"),
        ("img_20140426_145403", "file_name"),
        ("Screenshot 2020-01-02 at 10.11.12", "file_name"),
        ("WhatsApp Image 2020-01-02 at 10.11.12 (1)", "file_name"),
        ("d41d8cd98f00b204e9800998ecf8427e", "file_name"),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "file_name"),
        ("banner_728x90", "file_name"),
        ("https://www.example.com/a/b?c=d", "url_text"),
        ("www.example.com", "url_text"),
        ("example.de", "url_text"),
        ("somebody@mail.example.org", "url_text"),
        ("via http://a.example.org/a/long/path/to/some/page", "url_text"),
        ("Image", "boilerplate"),
        ("image #12", "boilerplate"),
        ("  LOGO! ", "boilerplate"),
        ("Click to enlarge", "boilerplate"),
        ("Weiterlesen...", "boilerplate"),
        ("Image à la une", "boilerplate"),
        ("続きを読む", "boilerplate"),
        ("Подробнее", "boilerplate"),
        ("더보기", "boilerplate"),
        ("Looooooooool", "repeated_characters"),
        ("buy buy buy buy buy now", "repeated_characters"),
    ],
)
def test_texts_that_say_nothing_leave_with_their_reason(text: str, reason: str) -> None:
    assert text_reason(text, SETTINGS) == reason


def test_limits_follow_the_settings() -> None:
    assert text_reason("two words", TextFilterSettings(min_words=3)) == "too_short"
    assert text_reason("東京の夜景", TextFilterSettings(min_words=3)) is None  # written without spaces
    assert text_reason("abcd", TextFilterSettings(min_characters=5)) == "too_short"
    assert text_reason("abcdef", TextFilterSettings(max_characters=5)) == "too_long"
    off = TextFilterSettings(boilerplate=False, file_names=False, urls=False)
    for text in ("Image", "IMG_1234.JPG", "www.example.com"):
        assert text_reason(text, off) is None
    assert text_reason("aaab", TextFilterSettings(max_character_run=2)) == "repeated_characters"
    assert text_reason("no no", TextFilterSettings(max_word_run=1)) == "repeated_characters"


@pytest.mark.parametrize(
    "text",
    ["© Jane Doe/dpa", "(C) Volkswagen", "Photo by Joan Bardeletti", "Photo: Ashraf Amra/Anadolu via Getty Images",
     "Photograph: Tim Robberts/Getty Images", "Foto: Anita Drenckhahn", "Image credit: NASA/JPL-Caltech"],
)  # fmt: skip
def test_who_made_the_picture_says_nothing_of_it(text: str) -> None:
    assert text_reason(text, SETTINGS) == "credit_line"
    assert text_reason(text, TextFilterSettings(credit_lines=False)) is None


@pytest.mark.parametrize(
    "text",
    ["Photo of a cat", "Photo of Paris", "Picture of Paris in winter", "Photo: a dog on a beach", "Images of the sea",
     "Photo by the river", "Source of the Nile", "Bild: Fahne von Singapur", "© 2019 a red kite over a field"],
)  # fmt: skip
def test_what_a_picture_shows_stays(text: str) -> None:
    assert text_reason(text, SETTINGS) is None


@pytest.mark.parametrize(
    "text",
    ["Share this on Google+", "Follow me on Twitter", "icon :: xing", "Powered by MediaWiki", "Teilen auf Xing"],
)
def test_boilerplate_of_many_forms(text: str) -> None:
    assert text_reason(text, SETTINGS) == "boilerplate"


def test_the_first_reason_in_order_is_given() -> None:
    assert TEXT_REASONS == (
        "too_short",
        "too_long",
        "no_letters",
        "file_name",
        "url_text",
        "boilerplate",
        "credit_line",
        "repeated_characters",
        "adult_word",
    )
    assert text_reason("http://" + "a" * 2000, SETTINGS) == "too_long"


def test_a_reason_carries_its_meaning_and_is_a_plain_string_elsewhere() -> None:
    for reason in TEXT_REASONS:
        assert reason.meaning == meanings()[reason] != ""
        assert type(pickle.loads(pickle.dumps(reason))) is Reason
        assert pickle.loads(pickle.dumps(reason)).meaning == reason.meaning
    assert type(str(TEXT_REASONS[0])) is str
    assert json.dumps({TEXT_REASONS[0]: TEXT_REASONS[1]}) == '{"too_short": "too_long"}'
    with pytest.raises(ValueError, match="is not a reason"):
        Reason("Too short", "")


def test_word_lists(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# comment\nFOO\n\nbad phrase\nNaïve-Word\n", encoding="utf-8")
    words = read_word_list(path)
    assert words == WordList(frozenset({"foo"}), (" bad phrase ", " naïve word "))
    for text in ("A Foo here", "(foo)", "a BAD  phrase!", "so naïve word", "foo"):
        assert text_reason(text, TextFilterSettings(adult_words=path)) == "adult_word"
    for text in ("food", "a bad, long phrase", "tofoo"):
        assert text_reason(text, TextFilterSettings(adult_words=path)) is None
    assert adult_word_filter(SETTINGS) is None


def test_an_unreadable_word_list_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(OpenWITError, match="nowhere.txt does not exist"):
        read_word_list(tmp_path / "nowhere.txt")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"PK\x03\x04\x00\x00")
    with pytest.raises(OpenWITError, match="binary.txt is not a text file"):
        read_word_list(binary)
    binary.write_bytes("schön\n".encode("cp1252"))
    assert read_word_list(binary).words == {"schön"}


def test_boilerplate_entries_can_match() -> None:
    assert len(BOILERPLATE) > 800
    for entry in BOILERPLATE:
        assert entry == " ".join(entry.split()).casefold()
        keep_short = TextFilterSettings(min_characters=1)
        assert text_reason(entry, keep_short) in ("boilerplate", "file_name", "url_text"), entry


@given(st.text(max_size=200), st.integers(1, 50))
def test_any_text_has_a_listed_reason_or_none(text: str, limit: int) -> None:
    assert text_reason(text, TextFilterSettings(min_characters=limit)) in (None, *TEXT_REASONS)


def test_hostile_texts_take_no_time() -> None:
    wide = TextFilterSettings(max_characters=100_000)
    for text in (
        "IMG_1" + " at" * 20_000 + "!",
        "1_" * 30_000 + " !",
        "a." * 30_000,
        "@" * 50_000,
        "a1" * 30_000 + "!",
    ):
        text_reason(text, wide)


@pytest.mark.parametrize(
    ("text", "reason", "title"),
    [
        ("vw", "too_short", "VW-Chef warns of cars"),
        ("747", "no_letters", "Boeing 747 - a history"),
        ("P1000", "file_name", "The P1000 and other cameras"),
        ("hide.me", "url_text", "hide.me at a lower price"),
        ("Twitter", "boilerplate", "What Twitter means for birds"),
    ],
)
def test_a_name_in_the_title_of_its_page_stays(text: str, reason: str, title: str) -> None:
    def judged(context: TextContext) -> str | None:
        return drop_reason(text, filters_of(SETTINGS), context)

    assert judged(TextContext(url="http://a.org/1.jpg", text_source="alt")) == reason
    assert judged(TextContext(url="http://a.org/1.jpg", text_source="alt", page_title=title)) is None


def test_a_drawing_of_a_thing_is_no_control() -> None:
    for url, source, reason in (
        ("http://a.org/star.png", "alt", None),
        ("http://a.org/icons/star.png", "alt", "boilerplate"),
        ("http://a.org/star.png", "link", "boilerplate"),
    ):
        context = TextContext(url=url, text_source=source)
        assert drop_reason("star", filters_of(SETTINGS), context) == reason
    social = TextContext(url="http://a.org/social/tw.png", text_source="alt", page_title="What Twitter means")
    assert drop_reason("Twitter", filters_of(SETTINGS), social) == "boilerplate"


@pytest.mark.parametrize("word", ["cat", "house", "ox", "tree", "dog", "Katze", "star", "clock", "flag", "猫", "pin"])
def test_no_reason_drops_a_real_word(word: str) -> None:
    assert text_reason(word, SETTINGS) is None


def test_filters_that_were_asked_for(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("foo\n")
    assert build_asked_filters(SETTINGS) == []
    asked = build_asked_filters(TextFilterSettings(min_words=2, max_word_run=2, adult_words=words))
    texts = ("IMG_0042.jpg", "logo", "no no no", "a foo", "12345 67", "word " * 300 + "x", "aaaaaaaaaaaa b")
    reasons = [drop_reason(text, asked) for text in texts]
    assert reasons == [
        "too_short",
        "too_short",
        "repeated_characters",
        "adult_word",
        None,
        "repeated_characters",
        None,
    ]

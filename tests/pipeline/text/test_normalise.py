import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.text.normalise import normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("New-York, NEW york!", "new york new york"),
        ("dog's  \t house_number 42", "dog s house number 42"),
        ("Straße ﬁne Ⅷ", "strasse fine viii"),
        ("cafe\u0301 CAFÉ", "café café"),
        ("東京タワー", "東 京 タ ワ ー"),
        ("हिन्दी भाषा", "हिन्दी भाषा"),
        ("red\u00a0heart — ❤️ \u200b…", "red heart"),
        ("", ""),
    ],
)
def test_examples(text, expected):
    assert normalise(text) == unicodedata.normalize("NFKC", expected)


@given(st.text())
def test_idempotent(text):
    once = normalise(text)
    assert normalise(once) == once


@given(st.text(st.characters(max_codepoint=127)))
def test_the_fast_path_for_ascii_agrees_with_the_general_one(text):
    # A non-ASCII separator takes the slow path without adding a word.
    assert normalise(f"{text} \u2014") == normalise(text)


@given(st.text(), st.text())
def test_words_do_not_depend_on_their_neighbours(left, right):
    assert normalise(f"{left} | {right}") == " ".join(filter(None, [normalise(left), normalise(right)]))

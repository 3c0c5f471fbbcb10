import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.match import Matcher, spaced
from pipeline.text.normalise import normalise

ENTRIES = [
    "dog", "Dog", "hot dog", "dog house", "U.S.", "Mr. Robot", "dog's", "t-shirt", "42", "rock and roll", "rock",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hot dog house", ["dog", "hot dog", "dog house"]),
        ("dog.", ["dog"]),
        ("dog,cat", ["dog"]),
        ("dog?house", ["dog"]),
        ("`dog`", ["dog"]),
        ("hot.dog", ["dog"]),
        ("dog's", ["dog's"]),
        ("(dog)", []),
        ('"dog"', []),
        ("dogs", []),
        ("dog-house", []),
        ("dog_house", []),
        ("rock/roll", []),
        ("dog\u00a0", []),
        ("a  dog", ["dog"]),
        ("hot  dog", ["dog"]),
        ("hot\tdog", ["dog", "hot dog"]),
        ("U.S.", []),
        ("the U.S. flag", []),
        ("Mr. Robot", []),
        ("Rock And Roll", []),
        ("42!", ["42"]),
    ],
)
def test_golden_vectors_of_metaclip(text, expected):
    matcher = Matcher(ENTRIES, "metaclip")
    assert sorted(ENTRIES[i] for i in matcher.match_text(text)) == sorted(expected)


def test_spacing_as_metaclip_does_it():
    assert spaced("Hi, Mr. Robot!") == " Hi ,  Mr .  Robot !  "


def test_words_mode_is_whole_words_every_overlap_once():
    queries = ["new york", "york", "new york city", "cat", "東京"]
    matcher = Matcher(queries)
    found = matcher.match(pa.array(["New-York City: new york!", "please concatenate", "東京タワー", None, ""]))
    assert found.to_pylist() == [[0, 1, 2], [], [4], [], []]


def test_lists_in_one_process_do_not_mix_and_equal_queries_all_match():
    first, second = Matcher(["dog", "Dog!"]), Matcher(["cat"])
    assert first.match_text("a dog") == [0, 1]
    assert second.match_text("a dog") == []


def test_queries_without_words_match_nothing():
    assert Matcher(["", " ", "!!", "a"]).match_text("a !! b") == [3]


_WORD = st.sampled_from(["a", "b", "c", "d", "new", "york"])
_PHRASE = st.lists(_WORD, min_size=1, max_size=3).map(" ".join)


@given(st.lists(_PHRASE, max_size=12), st.lists(_WORD, max_size=10).map(" ".join))
def test_equals_the_plain_substring_rule(queries, text):
    plain = [i for i, q in enumerate(queries) if f" {normalise(q)} " in f" {normalise(text)} "]
    assert Matcher(queries).match_text(text) == plain


@given(st.lists(_PHRASE, max_size=12), st.text(st.sampled_from("ab new.york?\t "), max_size=30))
def test_metaclip_mode_equals_the_plain_rule(queries, text):
    plain = [i for i, q in enumerate(queries) if f" {q} " in spaced(text)]
    assert Matcher(queries, "metaclip").match_text(text) == plain

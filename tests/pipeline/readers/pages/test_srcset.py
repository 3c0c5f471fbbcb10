import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.readers.pages.srcset import MAX_CANDIDATES, Candidate, best_first, choose, parse_srcset


@pytest.mark.parametrize(
    ("srcset", "expected"),
    [
        ("a.jpg 300w, b.jpg 600w", [("a.jpg", 300), ("b.jpg", 600)]),
        ("a.jpg 1x,b.jpg 1.5x", [("a.jpg", 1), ("b.jpg", 1.5)]),
        ("a.jpg, b.jpg 2x", [("a.jpg", 1), ("b.jpg", 2)]),
        ("a.jpg", [("a.jpg", 1)]),
        ("a,b.jpg 2x", [("a,b.jpg", 2)]),
        ("/w_1,h_2/a.jpg 100w,\n\t/w_2,h_4/a.jpg 200w", [("/w_1,h_2/a.jpg", 100), ("/w_2,h_4/a.jpg", 200)]),
        ("data:image/gif;base64,R0lG 1x, b.jpg 2x", [("data:image/gif;base64,R0lG", 1), ("b.jpg", 2)]),
        ("a.jpg 300w 200h, b.jpg wide", [("a.jpg", 300), ("b.jpg", 1)]),
        (" ,, a.jpg 2x ,", [("a.jpg", 2)]),
        ("", []),
        (" , ", []),
    ],
)
def test_parses(srcset: str, expected: list[tuple[str, float]]) -> None:
    assert parse_srcset(srcset) == [Candidate(*pair) for pair in expected]


def test_chooses_the_largest_or_the_narrowest_that_is_enough() -> None:
    candidates = parse_srcset("a 300w, b 1200w, c 600w, d 1200w")
    assert choose(candidates).url == "b"
    assert choose(candidates, 500).url == "c"
    assert choose(candidates, 5000).url == "b"


@given(st.text(alphabet="ab,./ \n123wx-", max_size=80))
def test_any_string_parses(srcset: str) -> None:
    for candidate in parse_srcset(srcset):
        assert candidate.url
        assert not any(character.isspace() for character in candidate.url)
        assert not candidate.url.startswith(",")
        assert candidate.url in srcset


@given(st.lists(st.tuples(st.from_regex(r"[a-z/]{1,9}\.jpg", fullmatch=True), st.integers(1, 5000)), min_size=1))
def test_reads_what_was_written(pairs: list[tuple[str, int]]) -> None:
    assert parse_srcset(", ".join(f"{url} {width}w" for url, width in pairs)) == pairs


def test_long_hostile_input_takes_linear_time() -> None:
    for hostile in ("a" * 200_000 + " " * 200_000, "," * 400_000, "a " * 200_000, "a, " * 200_000):
        parse_srcset(hostile)


def test_only_the_first_candidates_of_a_srcset_are_read() -> None:
    assert len(parse_srcset(", ".join(f"{n}.jpg {n}w" for n in range(500)))) == MAX_CANDIDATES


def test_the_order_of_choice() -> None:
    candidates = [Candidate("a", 300), Candidate("b", 900), Candidate("c", 600), Candidate("d", 300)]
    assert [one.url for one in best_first(candidates)] == ["b", "c", "a", "d"]
    assert [one.url for one in best_first(candidates, 500)] == ["c", "b", "a", "d"]

import gzip
import pickle
import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numba
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.common.compiled import compiled
from openwit.pipeline.text.matching import ids as match_ids
from openwit.pipeline.text.matching import row_kernel
from openwit.pipeline.text.matching import runs as match_runs
from openwit.pipeline.text.matching import words as match_words
from openwit.pipeline.text.matching.matcher import Matcher, spaced
from openwit.pipeline.text.matching.settings import MatchMode
from openwit.pipeline.text.normalise import normalise

DATA = Path(__file__).parents[4].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is missing")
MODES: tuple[MatchMode, ...] = ("words", "metaclip")


class PlainMatcher:
    """The same rules by a dictionary of runs of words, caption by caption in Python: what the kernel must equal."""

    def __init__(self, queries: Sequence[str], mode: MatchMode = "words") -> None:
        self.mode = mode
        self.ids: dict[str, list[int]] = {}
        for number, query in enumerate(queries):
            key = normalise(query) if mode == "words" else query
            if key.strip(" "):
                self.ids.setdefault(key, []).append(number)
        self.prefixes = {" ".join(key.split(" ")[:n]) for key in self.ids for n in range(1, key.count(" ") + 1)}

    def match_text(self, text: str) -> list[int]:
        words = normalise(text).split() if self.mode == "words" else spaced(text).split(" ")[1:-1]
        return sorted(set(self._runs(words)))

    def _runs(self, words: list[str]) -> Iterator[int]:
        for start in range(len(words)):
            run, end = words[start], start + 1
            while True:
                yield from self.ids.get(run, ())
                if end == len(words) or run not in self.prefixes:
                    break
                run = f"{run} {words[end]}"
                end += 1


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


# Letters of every kind of trouble: folding, composition, marks in and out of order, jamo, ligatures, no spaces.
_LETTERS = st.sampled_from(
    "ab\u00e9\u00c9\u0130\u00df\u1e9e\u03a3\u03c2\ufb01\u00bd\u2460\ufdfa\u00b4\u00a8\u3392"  # fold or decompose
    "\u0301\u0323\u0345\u0327\u093c\u094d\u0915\u0928\u0959\u09be\u09c7"  # marks that join or are reordered
    "\u0e01\u0e33\u0e38\u0e48\u6771\u4eac\uf900\u30ab\uff76\uff9e\u3099\u1780\u17d2"  # scripts without spaces
    "\u1100\u1161\u11a8\uac00\uac01\u314b\u3160\ud55c\uae00"  # jamo and syllables
    "\u0628\u064e\u0651\u0653\u05d0\u05b8\ufe0f\U000e0100\u200d\u00ad\u00a0\u3000"  # other marks, selectors, spaces
    " .-\t\n\x00\ufffd\ud800\U0001d504\U00020000\U0001f600"
)
_TEXT = (
    st.text(_LETTERS, max_size=12)
    | st.text(max_size=8)
    | st.lists(_WORD | st.text(_LETTERS, max_size=3)).map(" ".join)
)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_equals_the_plain_matcher(mode, data):
    queries = data.draw(st.lists(_PHRASE | _TEXT, max_size=12))
    texts = data.draw(st.lists(_TEXT | st.lists(st.sampled_from(queries or [""])).map(" ".join), max_size=6))
    matcher, plain = Matcher(queries, mode), PlainMatcher(queries, mode)
    for text in texts:
        assert matcher.match_text(text) == plain.match_text(text)


@given(st.lists(_PHRASE, max_size=12), st.lists(_WORD, max_size=10).map(" ".join))
def test_equals_the_plain_substring_rule(queries, text):
    plain = [i for i, q in enumerate(queries) if f" {normalise(q)} " in f" {normalise(text)} "]
    assert Matcher(queries).match_text(text) == plain


@given(
    st.lists(st.text(st.sampled_from("ab new.york?\t\u00e9 "), max_size=8), max_size=12),
    st.text(st.sampled_from("ab new.york?\t\r\n\u00e9\x00  "), max_size=30),
)
def test_metaclip_mode_equals_the_plain_rule(queries, text):
    plain = [i for i, q in enumerate(queries) if q.strip(" ") and f" {q} " in spaced(text)]
    assert Matcher(queries, "metaclip").match_text(text) == plain


@pytest.mark.parametrize("mode", MODES)
def test_words_of_every_length_are_told_apart_by_every_byte(mode):
    queries = ["x" * n for n in range(1, 70)]
    queries += ["x" * n + "y" + "x" * (40 - n) for n in range(41)] + ["y" * 17, "y" * 16 + "z", "z" + "y" * 16]
    matcher = Matcher(queries, mode)
    for number, query in enumerate(queries):
        assert matcher.match_text(query) == [number]
        assert matcher.match_text(f"{query}w w{query} {query[:-1]}w") == []
    assert matcher.match_text(" ".join(queries)) == list(range(len(queries)))


@pytest.mark.parametrize("mode", MODES)
def test_long_texts_and_long_queries(mode):
    chance = random.Random(1)
    queries = [" ".join(chance.choices("ab", k=k)) for k in (1, 2, 3, 5, 8, 13, 40, 400) for _ in range(20)]
    matcher, plain = Matcher(queries, mode), PlainMatcher(queries, mode)
    for size in (10, 61, 62, 63, 64, 65, 100, 1000, 3000):
        text = " ".join(chance.choices("ab", k=size)) + f" {queries[-1]} " + queries[-2]
        assert matcher.match_text(text) == plain.match_text(text)
    mixed = ["a b", queries[-1], None, "b " * 300, "b a", ""] * 3
    assert matcher.match(pa.array(mixed)).to_pylist() == [plain.match_text(text or "") for text in mixed]


def test_a_megabyte_of_one_word_takes_time_in_line_with_its_length():
    queries = [" ".join(["a"] * n) for n in range(1, 1200)]
    matcher = Matcher(queries)
    assert matcher.match_text("a a b") == [0, 1]
    start = time.process_time()
    assert matcher.match_text("a " * (1 << 19)) == list(range(len(queries)))
    assert time.process_time() - start < 2
    # As many in short texts as fit below the length where the automaton takes over.
    assert Matcher(queries).match_text("a " * 63) == list(range(63))


def test_equal_queries_in_numbers():
    matcher = Matcher(["Caf\u00e9", "dog"] + ["cafe\u0301"] * 300 + ["dog"])
    assert matcher.match_text("dog caf\u00e9 dog CAF\u00c9") == list(range(303))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_every_kind_of_column(kind, mode):
    matcher = Matcher(["dog", "hot dog", "caf\u00e9"], mode)
    texts = ["a dog", None, "hot dog", "", "caf\u00e9", "a much longer text with a dog in it"]
    expected = [[0], [], [0, 1], [], [2], [0]]
    column = pa.array(texts, kind)
    assert matcher.match(column).to_pylist() == expected
    assert matcher.match(column[1:5]).to_pylist() == expected[1:5]
    assert matcher.match(column[3:3]).to_pylist() == []
    found = matcher.match(pa.chunked_array([column[:2], column[2:2], column[2:]]))
    assert found.type == pa.list_(pa.int32())
    assert found.to_pylist() == expected
    assert matcher.match(pa.chunked_array([], kind)).to_pylist() == []
    assert Matcher(pa.array(["dog", None, "hot dog"], kind), mode).match(column[2:3]).to_pylist() == [[0, 2]]
    assert Matcher(pa.chunked_array([["dog"], ["hot dog"]], kind), mode).match(column[2:3]).to_pylist() == [[0, 1]]


def test_columns_of_nulls_of_other_things_and_with_broken_offsets():
    matcher = Matcher(["dog"])
    assert matcher.match(pa.nulls(2)).to_pylist() == [[], []]
    with pytest.raises(TypeError, match="column of strings, not of int64"):
        matcher.match(pa.array([1]))
    for offsets in ([0, 7], [3, 1], [-4, 2]):
        buffers = [None, pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(b"dog")]
        with pytest.raises(ValueError, match="(?i)offset"):
            matcher.match(pa.Array.from_buffers(pa.string(), 1, buffers))


@pytest.mark.parametrize("mode", MODES)
def test_bytes_that_are_no_utf8_are_no_word_and_harm_none(mode):
    broken = [
        b"\xff",
        b"\xe6\x9d",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        b"\xe0\x80\xaf",
        b"\x80\x80",
        b"\xf0\x9f",
    ]
    matcher = Matcher(["dog", "\ufffd", "do", "g"], mode)
    for tables in range(2):
        texts = [b"a dog " + piece + b" dog" for piece in broken] + [b"dog do" + piece for piece in broken]
        column = pa.array(texts * (1 + 20 * tables), pa.binary()).view(pa.string())
        expected = [[0]] * len(broken) + [[0, 2] if mode == "words" else [0]] * len(broken)
        assert matcher.match(column).to_pylist() == expected * (1 + 20 * tables)


@pytest.mark.parametrize("mode", MODES)
def test_half_a_pair_of_surrogates_and_nul(mode):
    assert Matcher(["dog", "\ud800 dog", "?"], mode).match_text("\udc00 dog") == ([0, 1] if mode == "words" else [0])
    found = Matcher(["a\x00", "a", "\x00a", "a b"], mode).match_text("a\x00 b")
    assert found == ([0, 1, 2, 3] if mode == "words" else [0])


@pytest.mark.parametrize("mode", MODES)
def test_lists_of_none_and_one(mode):
    assert Matcher([], mode).match(pa.array(["a", "b c"])).to_pylist() == [[], []]
    assert Matcher(["b c"], mode).match(pa.array(["a", "b c"])).to_pylist() == [[], [0]]


def test_blocks_of_rows_join():
    texts = [f"row {n % 7} of {'many ' * (n % 50)}" for n in range(9000)] + ["many " * 100_000, "row 3"]
    matcher, plain = (
        Matcher(["row", "row 3", "6 of", "many many"]),
        PlainMatcher(["row", "row 3", "6 of", "many many"]),
    )
    assert matcher.match(pa.array(texts)).to_pylist() == [plain.match_text(text) for text in texts]


def test_pickled_and_shared_by_threads():
    queries = ["dog", "hot dog", "b"]
    matcher = pickle.loads(pickle.dumps(Matcher(queries)))
    column = pa.array(["hot dog", "b a", "\u00e9 dog"] * 2000)
    expected = Matcher(queries).match(column)
    found: list[pa.ListArray] = []
    threads = [threading.Thread(target=lambda: found.append(matcher.match(column))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one.equals(expected) for one in found)
    assert len(found) == 4


def test_each_function_is_compiled_once(tmp_path):
    column = pa.array(["hot dog", None, "caf\u00e9 " * 30])
    for mode in MODES:
        for _ in range(2):
            for kept in (column, column.cast(pa.large_string())[1:]):
                Matcher.load(tmp_path / mode, ["dog", "hot dog"], mode).match(kept)
                Matcher(column, mode).match(kept)
    for function in (
        row_kernel.word_rows, row_kernel.spaced_rows, match_words.look_up_rows, match_words.number_words,
        match_runs.answer_rows, match_ids.ids_of_rows, match_runs.grow_trie, match_runs.link_nodes,
    ):  # fmt: skip
        assert len(function.signatures) == 1


def test_compiles_where_nothing_can_be_kept(monkeypatch):
    def twice(number):
        return 2 * number

    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(twice)
    assert compiled(twice)(21) == 42


@needs_data
@pytest.mark.parametrize("mode", MODES)
def test_real_captions_equal_the_plain_matcher(mode, tmp_path):
    with gzip.open(DATA / "queries_500k.tsv.gz", "rt", encoding="utf-8") as file:
        queries = [line.rstrip("\n").partition("\t")[0] for line in file][1::20]
    captions = pq.read_table(DATA / "captions.parquet", columns=["text"])["text"][::8].combine_chunks()
    extra = [" ".join(text.split()[1:4]) for text in captions[::10].to_pylist()]
    plain = PlainMatcher(queries + extra, mode)
    expected = [plain.match_text(text) for text in captions.to_pylist()]
    assert sum(map(len, expected)) > 1000
    matcher = Matcher(queries + extra, mode)
    assert matcher.match(captions).to_pylist() == expected
    matcher.save(tmp_path / "index")
    opened = Matcher.open(tmp_path / "index", mode)
    assert opened is not None
    assert opened.match(captions).to_pylist() == expected


def test_captions_come_as_a_pandas_series_or_any_iterable():
    captions = ["a red kite", None, "no bird", "kite"]
    expected = [[0, 1], [], [], [0]]
    matcher = Matcher(pd.Series(["kite", "red kite"]))
    assert matcher.match(pa.array(captions)).to_pylist() == expected
    assert matcher.match(captions).to_pylist() == expected
    assert matcher.match(iter(captions)).to_pylist() == expected
    assert matcher.match(pd.Series(captions)).to_pylist() == expected
    assert matcher.match(pd.Series(["a red kite", float("nan"), pd.NA, "kite"])).to_pylist() == expected
    assert matcher.match(pd.Series(captions, dtype="string[pyarrow]")).to_pylist() == expected
    assert matcher.match(pd.Series(captions, index=[7, 7, 0, 1], dtype="string")).to_pylist() == expected


def test_what_is_not_a_column_of_texts_is_refused():
    matcher = Matcher(["kite"])
    with pytest.raises(TypeError, match="put it into a list"):
        matcher.match("a kite")
    with pytest.raises(TypeError):
        matcher.match([1, 2])

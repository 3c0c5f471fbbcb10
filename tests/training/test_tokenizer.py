import gzip
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.tokenizer import END_OF_TEXT, START_OF_TEXT, VOCABULARY_SIZE, clip_tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data"
MERGES = SHARED / "bpe_simple_vocab_16e6.txt.gz"


def test_start_text_end_padding() -> None:
    ids = clip_tokenizer()(["a red heart", "heart"], 77)
    assert ids.dtype == np.int64
    assert ids.tolist() == [[START_OF_TEXT, 320, 736, 1936, END_OF_TEXT], [START_OF_TEXT, 1936, END_OF_TEXT, 0, 0]]


def test_case_and_white_space_do_not_matter() -> None:
    one, other = clip_tokenizer()(["A  Red\n\tHEART ", "a red heart"], 77).tolist()
    assert one == other


def test_a_long_text_is_cut_and_keeps_its_end() -> None:
    ids = clip_tokenizer()(["heart " * 100], 16)[0].tolist()
    assert ids == [START_OF_TEXT, *[1936] * 14, END_OF_TEXT]


def test_no_text_at_all() -> None:
    assert clip_tokenizer()([""], 77).tolist() == [[START_OF_TEXT, END_OF_TEXT]]
    assert clip_tokenizer()([], 77).shape == (0, 2)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5), st.integers(3, 20))
def test_every_row_has_one_end_and_it_is_the_largest_id(texts: list[str], length: int) -> None:
    ids = clip_tokenizer()(texts, length)
    assert ids.shape[1] <= length
    assert ids.max() < VOCABULARY_SIZE
    ends = ids.argmax(axis=1)
    for row, end in zip(ids, ends, strict=True):
        assert row[0] == START_OF_TEXT
        assert row[end] == END_OF_TEXT
        assert not row[end + 1 :].any()
        assert (row[1:end] < START_OF_TEXT).all()


class ReferenceBpe:
    """Byte-pair encoding written from its definition, on the merges that openai/CLIP ships."""

    def __init__(self, path: Path) -> None:
        merges = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : 49_152 - 256 - 2 + 1]
        visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
        hidden = [byte for byte in range(256) if byte not in visible]
        letters = [chr(byte) for byte in visible] + [chr(256 + number) for number in range(len(hidden))]
        self.letter = dict(zip(visible + hidden, letters, strict=True))
        pairs = [tuple(merge.split()) for merge in merges]
        self.rank = {pair: number for number, pair in enumerate(pairs)}
        words = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in pairs]
        self.id = {word: number for number, word in enumerate(words)}

    def word(self, word: str) -> list[int]:
        parts = [self.letter[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self.rank.get(pair, len(self.rank)))
            if best not in self.rank:
                break
            merged: list[str] = []
            while parts:
                if tuple(parts[:2]) == best:
                    merged.append(parts.pop(0) + parts.pop(0))
                else:
                    merged.append(parts.pop(0))
            parts = merged
        return [self.id[part] for part in parts]


@cache
def reference() -> ReferenceBpe:
    return ReferenceBpe(MERGES)


@pytest.mark.skipif(not MERGES.exists(), reason="needs ../shared/data/bpe_simple_vocab_16e6.txt.gz")
def test_words_are_encoded_as_by_the_published_merges() -> None:
    captions = pq.read_table(SHARED / "captions.parquet")["text"].to_pylist()[::150]
    words = sorted({word.lower() for caption in captions for word in caption.split() if word.isalpha()})
    assert len(words) > 500
    encoded = clip_tokenizer()(words, 77)
    for word, row in zip(words, encoded, strict=True):
        expected = reference().word(word)
        assert row[1 : len(expected) + 2].tolist() == [*expected, END_OF_TEXT], word

import gzip
import html
import pickle
import re
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import open_clip

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config import ModelSettings
from openwit.training.tokenizer.bpe import (
    END_OF_TEXT,
    SMALLEST_VOCABULARY,
    START_OF_TEXT,
    VOCABULARY_SIZE,
    ClipTokenizer,
    byte_names,
    cleaned,
    clip_tokenizer,
    read_merges,
)
from openwit.training.tokenizer.read import read_tokenizer, stored_tokenizer, vocabulary_of

SHARED = Path(__file__).parents[4] / "shared" / "data"
MERGES = SHARED / "bpe_simple_vocab_16e6.txt.gz"
NEEDS_MERGES = pytest.mark.skipif(not MERGES.exists(), reason="needs ../shared/data/bpe_simple_vocab_16e6.txt.gz")
FEW = "#version: 0.2\nt h\nth e</w>\nc a\nca t</w>\n"


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


@pytest.mark.parametrize("mark", ["<start_of_text>", "<END_of_text>", "&lt;end_of_text&gt;", "<|endoftext|>"])
def test_a_text_cannot_end_itself(mark: str) -> None:
    row = clip_tokenizer()([f"a {mark} b"], 77)[0]
    assert (row[1:-1] < START_OF_TEXT).all()


def test_what_the_original_repairs_is_repaired() -> None:
    assert cleaned("  Salt &amp;amp; Pepper\n") == "salt & pepper"
    assert cleaned("lâ€™été &eacute;ternel") == "l'été éternel"
    assert cleaned("a\x00b\x1cc\u00a0d") == "abc d"


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_the_way_past_ftfy_changes_nothing(text: str) -> None:
    ftfy = pytest.importorskip("ftfy")
    repaired = html.unescape(html.unescape(ftfy.fix_text(text)))
    assert cleaned(text).replace("< ", "<") == " ".join(repaired.split()).lower().replace("< ", "<")


class Reference:
    """openai/CLIP's tokenizer written from its description, on the merges that it ships."""

    def __init__(self, merges: str) -> None:
        regex: Any = pytest.importorskip("regex")
        self.fix_text = pytest.importorskip("ftfy").fix_text
        self.words = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)
        visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
        hidden = [byte for byte in range(256) if byte not in visible]
        letters = [chr(byte) for byte in visible] + [chr(256 + number) for number in range(len(hidden))]
        self.letter = dict(zip(visible + hidden, letters, strict=True))
        pairs = [tuple(merge.split()) for merge in merges.strip().split("\n")[1 : 49_152 - 256 - 2 + 1]]
        self.rank = {pair: number for number, pair in enumerate(pairs)}
        pieces = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in pairs]
        self.id = {piece: number for number, piece in enumerate(pieces)}
        self.known: dict[str, list[int]] = {}

    def clean(self, text: str) -> str:
        text = html.unescape(html.unescape(self.fix_text(text))).strip()
        return re.sub(r"\s+", " ", text).strip().lower()

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in self.words.findall(self.clean(text)):
            if word not in self.known:
                self.known[word] = self.word(word)
            ids += self.known[word]
        return ids

    def word(self, word: str) -> list[int]:
        parts = [self.letter[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self.rank.get(pair, len(self.rank)))
            if best not in self.rank:
                break
            merged: list[str] = []
            place = 0
            while place < len(parts):
                step = 2 if tuple(parts[place : place + 2]) == best else 1
                merged.append("".join(parts[place : place + step]))
                place += step
            parts = merged
        return [self.id[part] for part in parts]


@cache
def reference() -> Reference:
    return Reference(gzip.decompress(MERGES.read_bytes()).decode())


def column(name: str, key: str) -> list[str]:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs ../shared/data/{name}")
    values = pq.read_table(path, columns=[key])[key].to_pylist()
    return [text for value in values for text in (value if isinstance(value, list) else [value]) if text]


@NEEDS_MERGES
@pytest.mark.parametrize(
    ("name", "key", "least"),
    [
        ("captions.parquet", "text", 45_014),
        ("flickr8k_128.parquet", "captions", 33_000),
        ("photos.parquet", "title", 1_900),
    ],
)
def test_every_caption_has_the_ids_of_the_original(name: str, key: str, least: int) -> None:
    texts = column(name, key)
    assert len(texts) >= least
    differing = []
    for text in texts:
        expected = [START_OF_TEXT, *reference().encode(text)[:75], END_OF_TEXT]
        if clip_tokenizer()([text], 77)[0].tolist() != expected:
            differing.append(text)
    assert differing == []


@NEEDS_MERGES
def test_75_languages_have_the_ids_of_the_original() -> None:
    for text in column("languages.parquet", "text")[::23]:
        assert clip_tokenizer()([text], 200)[0].tolist()[1:-1] == reference().encode(text)[:198], text


# Code points assigned since are letters to one Unicode table and not to the other.
ASSIGNED = st.characters(exclude_categories=["Cs", "Cn", "Co"]).filter(
    lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn"
)


@NEEDS_MERGES
@given(st.text(ASSIGNED, max_size=40).filter(lambda text: "text" not in text))
def test_any_text_has_the_ids_of_the_original(text: str) -> None:
    assert clip_tokenizer()([text], 500)[0].tolist()[1:-1] == reference().encode(text)


@NEEDS_MERGES
def test_open_clip_has_the_same_ids() -> None:
    texts = column("captions.parquet", "text")[::40]
    ours = clip_tokenizer()(texts, 77)
    with open_clip.imported() as module:
        theirs = module.SimpleTokenizer()(texts, 77).numpy()
    assert (theirs[:, : ours.shape[1]] == ours).all()
    assert not theirs[:, ours.shape[1] :].any()


@NEEDS_MERGES
def test_the_merges_file_gives_clips_own_tokenizer() -> None:
    own = read_tokenizer(MERGES)
    assert (own.vocabulary_size, own.end_of_text) == (VOCABULARY_SIZE, END_OF_TEXT)
    texts = column("captions.parquet", "text")[::500]
    assert (own(texts, 77) == clip_tokenizer()(texts, 77)).all()
    assert vocabulary_of(MERGES) == VOCABULARY_SIZE


def test_another_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt"
    path.write_text(FEW)
    tokenizer = read_tokenizer(path)
    assert tokenizer.vocabulary_size == vocabulary_of(path) == SMALLEST_VOCABULARY + 4
    row = tokenizer(["The CAT"], 77)[0].tolist()
    assert row == [516, 513, 515, 517]
    assert tokenizer.end_of_text == 517
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again(["the cat"], 77)[0].tolist() == row
    assert stored_tokenizer({"tokenizer": tokenizer.merges})(["the cat"], 77)[0].tolist() == row
    assert stored_tokenizer({}) is clip_tokenizer()
    assert read_tokenizer(None) is clip_tokenizer()


def test_the_configuration_follows_the_vocabulary_and_needs_the_file_once(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt"
    path.write_text(FEW)
    settings = ModelSettings.model_validate({"name": "vit-tiny-64", "tokenizer": str(path)})
    assert settings.resolved().text.vocabulary == SMALLEST_VOCABULARY + 4
    path.unlink()
    again = ModelSettings.model_validate_json(settings.model_dump_json())
    assert again.resolved() == settings.resolved()
    assert ModelSettings().resolved().text.vocabulary == VOCABULARY_SIZE
    with pytest.raises(ValueError, match="does not exist"):
        ModelSettings.model_validate({"tokenizer": str(path)})


@pytest.mark.parametrize("line", ["a b c", "a", "qq z", "t h"])
def test_a_line_that_is_no_merge_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "merges.txt"
    path.write_text(f"#version\nt h\n{line}\n")
    with pytest.raises(OpenWITError, match=r"merges.txt, line 3: .* is no merge"):
        vocabulary_of(path)
    with pytest.raises(OpenWITError, match="no merge"):
        read_tokenizer(path)


def test_every_byte_has_a_letter_of_its_own() -> None:
    names = byte_names()
    assert sorted(names) == list(range(256))
    assert len(set(names.values())) == 256
    assert names[ord("a")] == "a"
    assert read_merges("#\n", "x") == []
    assert ClipTokenizer("#\n").vocabulary_size == SMALLEST_VOCABULARY

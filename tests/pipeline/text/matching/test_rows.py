import random
import sys
import unicodedata
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.text.matching.character_tables import UNSURE, character_tables
from openwit.pipeline.text.matching.rows import column_of, rows_of, texts_of
from openwit.pipeline.text.normalise import normalise

DATA = Path(__file__).parents[4].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is missing")


def words_by_kernel(texts):
    character_tables()
    rows = rows_of(texts_of(column_of(texts)), "words")
    data = rows.buffer.tobytes()
    found = [data[start:end].decode() for start, end in zip(rows.starts, rows.ends, strict=True)]
    return [" ".join(row.split()) for row in found]


def test_every_character_alone_and_between_others():
    # One text would be left to `normalise` as a whole for one unsure character: each has its own.
    characters = [chr(c) for c in range(0x80, 0x30000)] + [chr(c) for c in range(0xE0000, 0xE0200)]
    characters = [c for c in characters if unicodedata.category(c) not in ("Cn", "Co", "Cs")]
    texts = [text for c in characters for text in (c, f"a{c}b")]
    for text, found in zip(texts, words_by_kernel(texts), strict=True):
        assert found == normalise(text), ascii(text)


def test_pairs_and_triples_of_characters_that_meet_in_no_language():
    facts, chance = character_tables().facts, random.Random(5)
    sure = [chr(c) for c in range(0x30000) if facts[c] & 0xFF != UNSURE and unicodedata.category(chr(c)) != "Cn"]
    # Nearly all characters are ideographs and syllables; the others are where the trouble is.
    odd = [c for c in sure if unicodedata.category(c)[0] == "M" or unicodedata.normalize("NFKD", c) != c]
    odd = [c for c in odd if not "\uac00" <= c <= "\ud7a3"]
    marks = [c for c in sure if unicodedata.category(c)[0] == "M"]
    texts = ["".join(chance.choice(chance.choice((sure, odd, marks))) for _ in range(3)) for _ in range(60_000)]
    for text, found in zip(texts, words_by_kernel(texts), strict=True):
        assert found == normalise(text), ascii(text)


def test_most_languages_need_no_python():
    facts = character_tables().facts
    for text in (
        "Caf\u00e9 \u2013 \u201eStra\u00dfe\u201c",
        "\ud55c\uad6d\uc5b4",
        "\u6771\u4eac\u30bf\u30ef\u30fc",
        "\u041f\u0440\u0438\u0432\u0435\u0442",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22",
        "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    ):
        assert all(facts[ord(c)] & 0xFF != UNSURE for c in text), text


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=10))
def test_any_text(texts):
    assert words_by_kernel(texts) == [normalise(text) for text in texts]


@needs_data
def test_real_texts_in_many_languages():
    texts = pq.read_table(DATA / "languages.parquet")["text"][::4].to_pylist()
    for text, found in zip(texts, words_by_kernel(texts), strict=True):
        assert found == normalise(text), ascii(text)
    assert sys.maxunicode + 2 == len(character_tables().piece_starts)

"""Tokenizers of other programs: cleaning and filling as SigLIP has them, what files state, what is wrong with them."""

import json
import pickle
import string
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import siglip
from support.open_clip import imported

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config import CustomModelSettings, ModelSettings, TrainConfig
from openwit.training.run.vocabulary import check_vocabulary, open_tokenizer
from openwit.training.tokenizer.file_tokenizer import canonical, file_in, read_file
from openwit.training.tokenizer.read import read_tokenizer, stored_tokenizer, vocabulary_of

TEXTS = ["A red_box, at the TOP!", "", "a green box at the left of a ground " * 5, "caf\u00e9 &amp; <b>"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return siglip.write_tokenizer(tmp_path_factory.mktemp("siglip"))


def test_texts_end_and_are_filled_up_as_siglips(path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = read_file(path)
    ids = tokenizer(TEXTS, 16)
    assert ids.shape == (4, 16)
    assert ids.dtype == np.int64
    plain: Any = Tokenizer.from_file(str(path))
    plain.enable_truncation(16)
    plain.enable_padding(length=16, pad_id=1, pad_token="</s>")
    assert ids.tolist() == [row.ids for row in plain.encode_batch([canonical(text) for text in TEXTS])]
    assert ids[1].tolist() == [1] * 16
    assert ids[2, -1] == tokenizer.end_of_text == 1
    assert tokenizer(["A RED box"], 16).tolist() == tokenizer(["a red, box."], 16).tolist()
    assert (tokenizer.pad, tokenizer.vocabulary_size) == (1, vocabulary_of(path))


def test_a_checkpoint_holds_all_of_it(path: Path, tmp_path: Path) -> None:
    tokenizer = read_file(path)
    torch.save({"tokenizer": tokenizer.stored}, tmp_path / "c.pt")
    state = torch.load(tmp_path / "c.pt", weights_only=True)
    for again in (stored_tokenizer(state), pickle.loads(pickle.dumps(tokenizer))):
        assert again.stored == tokenizer.stored
        assert np.array_equal(again(TEXTS, 12), tokenizer(TEXTS, 12))
    assert read_tokenizer(path, "whitespace").stored != tokenizer.stored


@given(st.text(alphabet=string.printable + "\u00e4\u2019", max_size=40))
def test_cleaning_is_idempotent_and_leaves_no_punctuation(text: str) -> None:
    found = canonical(text)
    assert canonical(found) == found
    assert not set(found) & set(string.punctuation)
    assert found == found.lower()
    assert "  " not in found


def test_cleaning_is_open_clips() -> None:
    with imported() as open_clip:
        theirs: ModuleType = open_clip.tokenizer
        for text in (*TEXTS, "it\u2019s  a_b-c\n{}", "\u00e2\u20ac\u201c x", "&lt;i&gt; \u00c4"):
            assert canonical(text) == theirs.get_clean_fn("canonicalize")(text)


@pytest.mark.parametrize(
    ("config", "clean", "starts", "ends"),
    [
        ({"tokenizer_class": "Siglip2Tokenizer"}, "lower", [], [1]),
        ({"tokenizer_class": "T5TokenizerFast", "pad_token": {"content": "<pad>"}}, "canonicalize", [], [1]),
        ({"add_eos_token": True, "add_bos_token": True, "eos_token": "</s>", "bos_token": "<pad>"}, "", [0], [1]),
    ],
)
def test_what_the_configuration_beside_a_file_states(
    tmp_path: Path, config: dict[str, Any], clean: str, starts: list[int], ends: list[int]
) -> None:
    stored = read_file(siglip.write_tokenizer(tmp_path, template=False, **config)).stored
    assert (stored["starts"], stored["ends"]) == (starts, ends)
    assert stored["clean"] == (clean or "canonicalize")
    assert stored["pad"] == (0 if "pad_token" in config else None)


def test_a_sentencepiece_model_where_the_package_is(tmp_path: Path) -> None:
    pieces = pytest.importorskip("sentencepiece")
    (tmp_path / "texts.txt").write_text("\n".join(siglip.SENTENCES * 5))
    pieces.SentencePieceTrainer.train(
        input=str(tmp_path / "texts.txt"),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=60,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": "</s>"}))
    assert file_in(tmp_path) == tmp_path / "spiece.model"
    tokenizer = read_file(tmp_path / "spiece.model")
    own = pieces.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    for text, row in zip(TEXTS, tokenizer(TEXTS, 16).tolist(), strict=True):
        ids = own.encode(canonical(text))[:15]
        assert row == [*ids, *[1] * (16 - len(ids))]
    again = stored_tokenizer({"tokenizer": tokenizer.stored})
    assert np.array_equal(again(TEXTS, 9), tokenizer(TEXTS, 9))


def test_a_sentencepiece_model_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    (tmp_path / "spiece.model").write_bytes(b"x")
    with pytest.raises(OpenWITError, match=r"needs the package sentencepiece: pip install 'openwit\[sentencepiece\]'"):
        read_file(tmp_path / "spiece.model")


@pytest.mark.parametrize("content", [b"{}", b"[1", b"\xff\xfe", b'{"model": {"type": "Unigram"}}'])
def test_a_file_that_is_no_tokenizer_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(OpenWITError, match=r"tokenizer\.json is no tokenizer\.json") as caught:
        read_file(tmp_path / "tokenizer.json")
    assert "\n" not in str(caught.value)


def test_what_does_not_suit_the_model_is_refused(path: Path, tmp_path: Path) -> None:
    tokenizer = read_file(path)
    with pytest.raises(OpenWITError, match="finds a text's end at the largest id, but texts of"):
        check_vocabulary(ModelSettings(name="vit-tiny-64", tokenizer=path), tokenizer)
    bare = siglip.write_tokenizer(tmp_path, template=True, tokenizer_class="T5Tokenizer")
    custom = CustomModelSettings.model_validate({"name": "a.b", "tokenizer": bare})
    with pytest.raises(OpenWITError, match="does not state with which token texts are filled up"):
        check_vocabulary(custom, read_file(bare))
    with pytest.raises(ValueError, match=r"clean is for a tokenizer.json or a .model"):
        ModelSettings(clean="lower")
    raw = {
        "run": "x",
        "data": {"dataset": "x"},
        "schedule": {"duration": "1 steps"},
        "model": {"spec": siglip.SPEC, "tokenizer": str(path)},
        "objective": {"name": "captioning"},
    }
    with pytest.raises(OpenWITError, match="captioning finds words by CLIP's start and end of text"):
        open_tokenizer(TrainConfig.model_validate(raw))


def test_the_vocabulary_is_filled_in(path: Path) -> None:
    settings = ModelSettings.model_validate({"name": "ViT-B/16-SigLIP", "tokenizer": path})
    assert settings.inputs.vocabulary == vocabulary_of(path)
    opened = ModelSettings.model_validate({"init": "weights", "tokenizer": path})
    assert opened.vocabulary is None

import gzip
import json
from pathlib import Path

import pytest

from openwit.schemas.common.errors import OpenWITError
from openwit.training.export import tokenizer_files
from openwit.training.export.tokenizer_files import clip_merges, write_tokenizer
from openwit.training.tokenizer.bpe import VOCABULARY_SIZE, ClipTokenizer, clip_tokenizer

SHARED = Path(__file__).parents[4] / "shared" / "data" / "bpe_simple_vocab_16e6.txt.gz"


def test_clips_merges_are_found_and_make_its_tokenizer(folder: Path) -> None:
    write_tokenizer(clip_tokenizer(), 77, folder)
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    assert len(vocabulary) == VOCABULARY_SIZE
    assert [vocabulary[piece] for piece in ("!", "heart</w>", "<|startoftext|>", "<|endoftext|>")] == [
        0,
        1936,
        49_406,
        49_407,
    ]
    again = ClipTokenizer((folder / "merges.txt").read_text(encoding="utf-8"))
    texts = ["a red heart", "Ünïcode 日本 🙂", "it's 1,000"]
    assert again(texts, 77).tolist() == clip_tokenizer()(texts, 77).tolist()
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 77


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data/bpe_simple_vocab_16e6.txt.gz")
def test_clips_merges_are_those_that_openai_ships() -> None:
    published = gzip.decompress(SHARED.read_bytes()).decode().split("\n")
    assert clip_merges().split("\n")[1:] == published[1 : 49_152 - 256 - 2 + 1]


def test_other_bytes_are_not_taken_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_files, "MERGES_SHA256", "0" * 64)
    with pytest.raises(OpenWITError, match="does not hold CLIP's merges"):
        clip_merges()

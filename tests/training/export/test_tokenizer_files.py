import gzip
import hashlib
import json
from pathlib import Path

import pytest

from openwit.training.export.tokenizer_files import write_tokenizer
from openwit.training.tokenizer.bpe import VOCABULARY_SIZE, ClipTokenizer, clip_merges, clip_tokenizer

# Of the 48,894 lines of openai/CLIP's bpe_simple_vocab_16e6.txt that CLIP uses, joined by line feeds.
MERGES_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"
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
    assert clip_merges().splitlines() == published[: 49_152 - 256 - 2 + 1]


def test_the_committed_merges_are_whole() -> None:
    lines = "\n".join(clip_merges().splitlines()[1:])
    assert hashlib.sha256(lines.encode()).hexdigest() == MERGES_SHA256

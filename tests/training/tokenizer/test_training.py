import subprocess
import sys
from pathlib import Path

import pytest

from openwit.training.cli.main import main
from openwit.training.config import ModelSettings
from openwit.training.tokenizer.bpe import ClipTokenizer, clip_tokenizer
from openwit.training.tokenizer.read import read_tokenizer
from openwit.training.tokenizer.training import learn_merges


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def test_a_vocabulary_of_the_datasets_own_words(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merges.txt"
    assert run_cli("tokenizer", dataset, "--vocabulary", 550, "--out", out) == 0
    said = capsys.readouterr().out
    assert "a vocabulary of 550, " in " ".join(said.split())
    own = read_tokenizer(out)
    assert own.vocabulary_size == 550
    text = "a red box at the top of a blue ground"
    assert own([text], 77).shape[1] < clip_tokenizer()([text], 77).shape[1] + 3
    assert own(["Zürich, 日本!"], 77).max() == 549
    again = tmp_path / "again.txt"
    assert run_cli("tokenizer", dataset, "--vocabulary", 550, "--out", again) == 0
    assert again.read_bytes() == out.read_bytes()
    assert ModelSettings.model_validate({"tokenizer": str(out)}).resolved().text.vocabulary == 550


def test_ties_are_settled_alike_in_every_process() -> None:
    code = (
        "from openwit.training.tokenizer.training import learn_merges\n"
        "print(learn_merges(iter(['ab cd ef gh ij kl'] * 2), 9))"
    )
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(found) == 1


def test_fewer_merges_where_nothing_recurs() -> None:
    merges = learn_merges(iter(["the cat", "the cat"]), 1000)
    assert 0 < len(merges) < 10
    tokenizer = ClipTokenizer("\n".join(["#", *map(" ".join, merges)]))
    assert len(tokenizer(["the cat"], 77)[0]) == 4


def test_it_shortens_its_texts_at_least_as_clips_own_cut_to_that_size() -> None:
    texts = ["purple giraffes juggle", "giraffes juggle purple plums", "plums juggle"] * 2
    tokenizer = ClipTokenizer("\n".join(["#", *map(" ".join, learn_merges(iter(texts), 200))]))
    assert tokenizer(texts, 77).shape[1] <= clip_tokenizer()(texts, 77).shape[1]


@pytest.mark.parametrize("size", [100, 60_000])
def test_an_impossible_vocabulary_is_refused(
    dataset: Path, tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("tokenizer", dataset, "--vocabulary", size, "--out", tmp_path / "x") == 2
    assert f"vocabulary {size} must be" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()

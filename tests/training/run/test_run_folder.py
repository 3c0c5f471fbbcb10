from pathlib import Path
from typing import Any

import pytest
from support.stop_at import StopAt

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import parse_settings
from openwit.training.config import TrainConfig
from openwit.training.run.loop import fit
from openwit.training.tokenizer.bpe import WORD_END, ClipTokenizer, clip_merges
from openwit.training.tokenizer.read import stored_tokenizer


def merges(path: Path, *pairs: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["#version: 0.2", *pairs, ""]))
    return path


def test_a_tokenizer_may_move_but_not_change(configure: Any, tmp_path: Path) -> None:
    def run(tokenizer: Path, steps: int) -> None:
        base = configure()
        raw = {
            **base,
            "model": {**base["model"], "tokenizer": str(tokenizer)},
            "schedule": {"duration": "4 steps", "warmup": "10%"},
            "checkpoint": {"every": "1 steps"},
            "eval": {"split": None},
        }
        display = StopAt(steps)
        fit(parse_settings(raw, TrainConfig, "config"), display=display)

    first = merges(tmp_path / "a" / "merges.txt", f"o x{WORD_END}", f"r e{WORD_END}")
    run(first, 1)
    moved = merges(tmp_path / "b" / "moved.txt", f"o x{WORD_END}", f"r e{WORD_END}")
    run(moved, 2)
    other = merges(tmp_path / "b" / "other.txt", f"o x{WORD_END}", f"r o{WORD_END}")
    with pytest.raises(OpenWITError, match="was trained with another tokenizer than .*other.txt is now"):
        run(other, 4)
    longer = merges(tmp_path / "b" / "longer.txt", f"o x{WORD_END}", f"r e{WORD_END}", f"r o{WORD_END}")
    with pytest.raises(OpenWITError, match="model.vocabulary"):
        run(longer, 4)


def test_a_file_of_clips_own_merges_is_clips_tokenizer(configure: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text(clip_merges(), encoding="utf-8")

    def run(tokenizer: Path | None, steps: int, folder: str, **model: Any) -> Any:
        base = configure()
        raw = {
            **base,
            "run": str(tmp_path / folder),
            "model": {**base["model"], "tokenizer": tokenizer and str(tokenizer), **model},
            "schedule": {"duration": "3 steps", "warmup": "10%"},
            "checkpoint": {"every": "1 steps"},
            "eval": {"split": None},
        }
        return fit(parse_settings(raw, TrainConfig, "config"), display=StopAt(steps))

    run(None, 1, "from_null")
    run(own, 2, "from_null")
    run(None, 3, "from_null")
    run(own, 1, "from_file")
    run(None, 2, "from_file")
    other = merges(tmp_path / "other.txt", f"o x{WORD_END}")
    with pytest.raises(OpenWITError, match=r"model\.vocabulary = 49408, but now"):
        run(other, 3, "from_file")
    with pytest.raises(OpenWITError, match="trained with another tokenizer than .*other.txt is now"):
        run(other, 3, "from_file", vocabulary=49_408)


def test_a_checkpoint_of_an_earlier_release_holds_clips_merges_as_text() -> None:
    assert stored_tokenizer({"tokenizer": clip_merges()}).stored is None
    assert ClipTokenizer(clip_merges() + "\n").stored is None
    assert ClipTokenizer(shorter := clip_merges().rpartition("\n")[0].rpartition("\n")[0]).stored == shorter

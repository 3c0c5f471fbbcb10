from pathlib import Path
from typing import Any

import pytest
from support.stop_at import StopAt

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import parse_settings
from openwit.training.config import TrainConfig
from openwit.training.run.loop import fit
from openwit.training.tokenizer.bpe import WORD_END


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

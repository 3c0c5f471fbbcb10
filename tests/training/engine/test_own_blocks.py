"""A custom model whose blocks are sharded, compiled or computed again: the same steps as without."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import batch_of_thirteen as tiny
from support import own_model
from support.nursery import Nursery

from openwit.schemas.common.errors import OpenWITError
from openwit.training.engine import own_blocks

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def front_end_only(forward: Any, mode: str) -> Any:
    assert mode == "default"
    return torch.compile(forward, backend="aot_eager", dynamic=False)


@pytest.mark.parametrize("case", [{"recompute": True}, {"compile": True}, {"compile": True, "recompute": True}])
def test_the_steps_are_the_same(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_blocks, "compiled", front_end_only)
    case = {**case, "chunk": 8}
    found, calls = own_model.run(case)
    plain, before = own_model.run({"chunk": 8})
    torch.testing.assert_close(found, plain, **TOLERANCE)  # type: ignore[arg-type]
    assert before == [8] * 4  # two steps, two chunks, two passes
    if not case.get("compile"):
        assert calls == [12] * 4  # and the second pass once more


def test_shards_of_two_processes_are_those_of_one(tmp_path: Path, nursery: Nursery) -> None:
    cases = [{"own": True, "strategy": "fsdp", "recompute": True, "chunk": 4}]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    ended = nursery.programs([tiny.__file__, str(tmp_path / "cases.json"), str(tmp_path / "out.pt")])
    assert [code for code, _, _ in ended] == [0, 0], ended
    (found,) = torch.load(tmp_path / "out.pt")
    plain, _ = own_model.run({"chunk": 4})
    torch.testing.assert_close(found, plain, **TOLERANCE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"name": "Within", "recompute": True}, "a module is in two of its blocks"),
        ({"name": "Layer", "recompute": True}, "model.name"),
        ({"compile": True, "mode": "reduce-overhead"}, "of built-in models only: use default"),
    ],
)
def test_a_mistake_is_one_sentence(case: dict[str, Any], words: str) -> None:
    with pytest.raises(OpenWITError, match=words):
        own_model.run(case)

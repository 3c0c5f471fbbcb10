import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from openwit.schemas.common.errors import StorageError
from openwit.schemas.common.settings import parse_settings
from openwit.training.checkpoints.files import CheckpointInfo, load_checkpoint
from openwit.training.config import TrainConfig
from openwit.training.run import saving
from openwit.training.run.saving import Saver


@pytest.fixture
def info(configure: Any) -> CheckpointInfo:
    config = parse_settings(configure(), TrainConfig, "config")
    about = {"dataset_name": "made", "dataset_sha256": "ab", "corrupt": [], "torch_version": "2"}
    return CheckpointInfo(step=0, samples=0, elapsed=0.0, finished=False, config=config, **about)


def at(info: CheckpointInfo, step: int, milestone: bool = False) -> CheckpointInfo:
    return info.model_copy(update={"step": step, "milestone": milestone})


def test_training_goes_on_while_the_disk_is_slow(
    tmp_path: Path, info: CheckpointInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    original = saving.save_checkpoint

    def slow(*arguments: Any) -> Path:
        assert gate.wait(10)
        return original(*arguments)

    monkeypatch.setattr(saving, "save_checkpoint", slow)
    weights = torch.ones(3)
    with Saver(tmp_path, 2, background=True) as saver:
        path = saver.save(at(info, 1), {"model": {"w": saver.take(weights)}})
        weights.fill_(7)  # the next step
        assert not path.exists()
        gate.set()
    assert load_checkpoint(path).model_state["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("background", [True, False])
def test_a_full_disk_is_told(tmp_path: Path, info: CheckpointInfo, background: bool) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    saver = Saver(tmp_path, 1, background)
    with pytest.raises(StorageError, match="checkpoints: File exists"):
        saver.save(at(info, 1), {"model": {}})
        saver.wait()


def test_milestones_stay(tmp_path: Path, info: CheckpointInfo) -> None:
    with Saver(tmp_path, 2, background=False) as saver:
        for step in range(1, 8):
            saver.save(at(info, step, milestone=step in (2, 4)), {"model": {}})
    names = sorted(path.stem for path in (tmp_path / "checkpoints").glob("*.pt"))
    assert [int(name.removeprefix("step-")) for name in names] == [2, 4, 6, 7]
    described = json.loads((tmp_path / "checkpoints" / f"{names[0]}.json").read_text())
    assert described["milestone"] is True

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
from openwit.training.run.saving import HostCopies, Saver


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


def test_page_locked_memory_is_allocated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: a machine without a GPU has no such memory."""
    allocated: list[torch.Tensor] = []

    def allocate(_: HostCopies, tensor: torch.Tensor) -> torch.Tensor:
        allocated.append(torch.empty(tensor.shape, dtype=tensor.dtype))
        return allocated[-1]

    monkeypatch.setattr(HostCopies, "_allocated", allocate)
    copies = HostCopies(pinned=True)
    state = [torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.tensor(7)]
    for value in (1, 2):
        state[0].fill_(value)
        found = [copies.copy(tensor) for tensor in state]
        copies.finish()()
        state[0].fill_(9)  # the next step
        assert found[0].eq(value).all()
        assert found[0].is_contiguous()
        assert int(found[1]) == 7
    assert len(allocated) == 2
    assert copies.copy(torch.zeros(8)).shape == (8,)
    assert len(allocated) == 3


def test_the_next_checkpoint_waits_for_the_memory_of_the_last(
    tmp_path: Path, info: CheckpointInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    original = saving.save_checkpoint

    def slow(*arguments: Any) -> Path:
        written = original(*arguments)
        order.append("written")
        return written

    monkeypatch.setattr(saving, "save_checkpoint", slow)
    with Saver(tmp_path, 2, background=True) as saver:
        for step in (1, 2):
            saver.save(at(info, step), {"model": {"w": saver.take(torch.ones(3))}})
            order.append("went on")
            saver.take(torch.ones(1))
            assert order[-1] == "written"

from pathlib import Path

import pytest
import torch

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import parse_settings
from openwit.training.checkpoints.files import (
    CheckpointInfo,
    find_checkpoint,
    latest_checkpoint,
    load_checkpoint,
    restore_model,
    save_checkpoint,
    stored_config,
)
from openwit.training.config import TrainConfig
from openwit.training.config.duration import Position


@pytest.fixture
def info(configure) -> CheckpointInfo:
    config = parse_settings(configure(), TrainConfig, "config")
    return CheckpointInfo(
        step=0,
        samples=0,
        elapsed=1.5,
        finished=False,
        config=config,
        dataset_name="made",
        dataset_sha256="ab",
        corrupt=["k"],
        torch_version="2",
    )


def save(run: Path, info: CheckpointInfo, step: int, keep: int = 9) -> Path:
    at = info.model_copy(update={"step": step, "samples": step * 24})
    return save_checkpoint(run, at, {"model": {"w": torch.full((50,), float(step))}}, keep)


def complaints() -> tuple[list[str], object]:
    said: list[str] = []
    return said, said.append


def test_what_is_saved_is_read_back(tmp_path: Path, info: CheckpointInfo) -> None:
    found = load_checkpoint(save(tmp_path, info, 7))
    assert found.info.position == Position(7, 168, 1.5)
    assert found.info.config == info.config
    assert found.info.corrupt == ["k"]
    assert found.model_state["w"].tolist() == [7.0] * 50


def test_only_the_newest_are_kept(tmp_path: Path, info: CheckpointInfo) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".partial-1-step-000000009.pt").write_bytes(b"left by a killed process")
    for step in (5, 10, 1000, 20_000):
        save(tmp_path, info, step, keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-000001000.json",
        "step-000001000.pt",
        "step-000020000.json",
        "step-000020000.pt",
    ]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose_the_description(path: Path) -> None:
    path.with_suffix(".json").unlink()


def garble_the_description(path: Path) -> None:
    path.with_suffix(".json").write_text("{")


@pytest.mark.parametrize("damage", [cut, flip_one_bit, lose_the_description, garble_the_description])
def test_a_broken_checkpoint_is_passed_over_and_named(tmp_path: Path, info: CheckpointInfo, damage) -> None:
    save(tmp_path, info, 5)
    damage(save(tmp_path, info, 10))
    said, say = complaints()
    found = latest_checkpoint(tmp_path, say)
    assert found is not None
    assert found.info.step == 5
    assert len(said) == 1
    assert "step-000000010" in said[0]


def test_nothing_but_broken_checkpoints_is_an_error(tmp_path: Path, info: CheckpointInfo) -> None:
    cut(save(tmp_path, info, 5))
    with pytest.raises(OpenWITError, match="every checkpoint .* is broken: remove"):
        latest_checkpoint(tmp_path, complaints()[1])


def test_a_run_or_a_file_may_be_named(tmp_path: Path, info: CheckpointInfo) -> None:
    older = save(tmp_path, info, 5)
    save(tmp_path, info, 10)
    say = complaints()[1]
    assert find_checkpoint(tmp_path, say).info.step == 10
    assert find_checkpoint(older, say).info.step == 5
    with pytest.raises(OpenWITError, match="does not exist"):
        find_checkpoint(tmp_path / "none.pt", say)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(OpenWITError, match="holds no checkpoint"):
        find_checkpoint(empty, say)


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path: Path, info: CheckpointInfo) -> None:
    with pytest.raises(Exception, match="[Ww]eights"):
        load_checkpoint(save_checkpoint(tmp_path, info, {"model": Path("anything but a tensor")}, 1))


def test_weights_of_another_architecture_are_refused(tmp_path: Path, info: CheckpointInfo) -> None:
    found = load_checkpoint(save(tmp_path, info, 5))
    with pytest.raises(OpenWITError, match="do not fit model"):
        restore_model(torch.nn.Linear(2, 2), found)


def test_a_folder_with_another_programs_config_is_refused(tmp_path: Path) -> None:
    assert stored_config(tmp_path) is None
    (tmp_path / "config.json").write_text('{"other": 1}')
    with pytest.raises(OpenWITError, match="choose another run folder"):
        stored_config(tmp_path)

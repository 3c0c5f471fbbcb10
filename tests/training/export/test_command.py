import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from openwit.schemas.common.errors import OpenWITError
from openwit.training.checkpoints.files import FOLDER, Checkpoint, load_checkpoint
from openwit.training.checkpoints.load import average_states, weights_of
from openwit.training.cli.main import main
from openwit.training.config.choices import Weights
from openwit.training.export.folder import atomic_folder


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture(params=[{}])
def run(configure: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Path:
    settings = configure(
        schedule={"duration": "6 steps"},
        checkpoint={"every": "2 steps", "keep": 3},
        eval={"split": None},
        **request.param,
    )
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert run_cli("fit", path) == 0
    capsys.readouterr()
    return tmp_path / "run"


def paths(run: Path) -> list[Path]:
    return sorted((run / FOLDER).glob("step-*.pt"))


def test_a_run_is_exported_with_its_lineage(run: Path, tmp_path: Path, dataset: Path) -> None:
    out = tmp_path / "exported"
    assert run_cli("export", run, "--format", "open_clip", "--out", out) == 0
    newest = load_checkpoint(paths(run)[-1])
    state = load_file(out / "open_clip_model.safetensors")
    assert torch.equal(state["visual.proj"], newest.model_state["visual.proj"])
    assert torch.equal(state["text_projection"], newest.model_state["text.text_projection"])
    lineage = json.loads((out / "lineage.json").read_text())
    assert (lineage["training"]["step"], lineage["training"]["samples"]) == (6, 6 * 24)
    manifest = hashlib.sha256((dataset / "manifest.json").read_bytes()).hexdigest()
    assert manifest in json.dumps(lineage["training"])
    assert lineage["training"]["config"]["seed"] == 3
    with safe_open(out / "open_clip_model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["openwit_lineage"]) == lineage
    assert not list(tmp_path.glob(".partial-*"))
    again = tmp_path / "again"
    assert run_cli("export", out / "open_clip_model.safetensors", "--format", "hf", "--out", again) == 0
    assert (again / "model.safetensors").exists()


def test_checkpoints_are_averaged(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    assert run_cli("export", run, "--format", "hf", "--out", out, "--average", 3) == 0
    states = [load_checkpoint(path).model_state["visual.class_embedding"] for path in paths(run)]
    mean = torch.stack(states).double().mean(0).float()
    found = load_file(out / "model.safetensors")["vision_model.embeddings.class_embedding"]
    torch.testing.assert_close(found, mean)
    assert not torch.equal(found, states[-1])
    assert [each["step"] for each in json.loads((out / "lineage.json").read_text())["averaged"]] == [2, 4, 6]


@pytest.mark.parametrize("run", [{"ema": {"decay": 0.9}}], indirect=True)
def test_the_moving_average_of_a_run(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    assert run_cli("export", run, "--format", "hf", "--out", out, "--weights", "ema") == 0
    checkpoint = load_checkpoint(paths(run)[-1])
    found = load_file(out / "model.safetensors")["vision_model.embeddings.class_embedding"]
    assert torch.equal(found, checkpoint.state["ema"]["visual.class_embedding"])
    assert not torch.equal(found, checkpoint.model_state["visual.class_embedding"])
    assert json.loads((out / "lineage.json").read_text())["weights"] == "ema"


@pytest.mark.parametrize("run", [{"objective": {"name": "bag_of_words"}}], indirect=True)
def test_a_model_without_a_text_tower_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("export", run, "--format", "hf", "--out", tmp_path / "x") == 2
    assert "was trained for bag_of_words" in capsys.readouterr().err


def test_what_cannot_be_exported_is_said_and_leaves_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "exported"
    for arguments, message in (
        ((run, "--format", "tflite"), "is not one of 'open_clip', 'hf', 'onnx'"),
        ((run, "--format", "hf", "--weights", "best"), "is not one of 'model', 'ema'"),
        ((run, "--format", "hf", "--weights", "ema"), "holds no moving average"),
        ((run, "--format", "hf", "--average", "9"), "has 3 checkpoints, 9 are to be averaged"),
        ((run, "--format", "hf", "--quick-gelu"), "is for weights of other programs"),
        ((tmp_path / "nothing", "--format", "hf"), "does not exist"),
        ((tmp_path, "--format", "hf"), "holds no checkpoint"),
    ):
        assert run_cli("export", *arguments, "--out", out) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()
    out.mkdir()
    (out / "mine").touch()
    assert run_cli("export", run, "--format", "hf", "--out", out) == 2
    assert "exists already" in capsys.readouterr().err
    assert not list(tmp_path.glob(".partial-*"))


def test_a_moving_average_is_taken_where_there_is_one() -> None:
    model = {"weight": torch.ones(2), "counter": torch.tensor(5)}
    state = {"model": model, "ema": {"weight": torch.zeros(2), "unknown": torch.ones(1)}}
    checkpoint = Checkpoint(Path("x.pt"), SimpleNamespace(), state)  # type: ignore[arg-type]
    assert weights_of(checkpoint, Weights.MODEL) == model
    moving = weights_of(checkpoint, Weights.EMA)
    assert moving["weight"].tolist() == [0, 0]
    assert moving["counter"] == 5
    assert moving.keys() == model.keys()


def test_a_mean_of_states() -> None:
    mean = average_states(
        [{"a": torch.tensor([1.0]), "n": torch.tensor(1)}, {"a": torch.tensor([4.0]), "n": torch.tensor(9)}]
    )
    assert mean["a"].tolist() == [2.5]
    assert mean["a"].dtype == torch.float32
    assert mean["n"] == 9
    with pytest.raises(OpenWITError, match="same tensors"):
        average_states([{"a": torch.ones(1)}, {"a": torch.ones(2)}])


def test_a_folder_is_complete_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"

    def fail() -> None:
        with atomic_folder(target) as folder:
            (folder / "half").touch()
            raise OSError("full")

    with pytest.raises(OSError):
        fail()
    assert list(target.parent.iterdir()) == []
    with atomic_folder(target) as folder:
        (folder / "whole").touch()
    assert [path.name for path in target.iterdir()] == ["whole"]
    with pytest.raises(OpenWITError, match="exists already"), atomic_folder(target):
        pass

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.nursery import Nursery, Started

from openwit.training.checkpoints.files import latest_checkpoint, load_checkpoint
from openwit.training.cli.main import main


def run_cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


@pytest.fixture
def config_file(configure, tmp_path: Path) -> Any:
    def write(**sections: Any) -> Path:
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump(configure(**sections)))
        return path

    return write


def wait_for(condition: Any, process: Started) -> None:
    while not condition():
        assert process.running(), process.ended()
        time.sleep(0.02)


def weights(run: Path) -> dict[str, torch.Tensor]:
    found = latest_checkpoint(run, lambda _: None)
    assert found is not None
    return found.model_state


def test_a_killed_run_goes_on_to_the_same_weights(
    config_file, tmp_path: Path, capsys: pytest.CaptureFixture[str], nursery: Nursery
) -> None:
    path = config_file(schedule={"duration": "40 steps"}, checkpoint={"every": "2 steps", "keep": 2})
    process = nursery.start(["fit", str(path), "--set", f"run={tmp_path / 'killed'}"])
    wait_for(lambda: list((tmp_path / "killed" / "checkpoints").glob("step-*4.json")), process)
    os.kill(process.pids[0], signal.SIGKILL)
    assert process.ended()[0][0] == -signal.SIGKILL
    assert not any(json.loads(p.read_text())["finished"] for p in (tmp_path / "killed" / "checkpoints").glob("*.json"))
    for name in ("killed", "whole"):
        arguments = ["--set", f"run={tmp_path / name}", "--set", "checkpoint.every=20 steps"]
        assert run_cli("fit", str(path), *arguments) == 0
    assert "training from step" in capsys.readouterr().out
    killed, whole = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert all(torch.equal(killed[name], whole[name]) for name in whole)


def test_a_signal_saves_and_leaves_with_a_sentence(config_file, tmp_path: Path, nursery: Nursery) -> None:
    process = nursery.start(["fit", str(config_file(schedule={"duration": "100000 steps"}))])
    wait_for(lambda: list((tmp_path / "run" / "checkpoints").glob("*.json")), process)
    os.kill(process.pids[0], signal.SIGTERM)
    ((code, out, err),) = process.ended(60)
    assert code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step" in out
    assert "Traceback" not in err
    found = latest_checkpoint(tmp_path / "run", lambda _: None)
    assert found is not None
    assert f"after step {found.info.step};" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "none.yaml"], "none.yaml does not exist"),
        (["fit", "{config}", "--set", "optim.rate=1"], "unknown key 'optim.rate'"),
        (
            ["fit", "{config}", "--set", "model.image_size=64"],
            "unknown key 'model.image_size'; did you mean 'model.spec.vision.image_size'?",
        ),
        (["fit", "{config}", "--set", "data.dataset=/nowhere"], "/nowhere is not a dataset"),
        (["fit", "{config}", "--set", "device=cuda"], "PyTorch sees no GPU"),
        (["fit", "{config}", "--set", "run=/proc/none"], "cannot be written"),
        (["retrieval", "nowhere.pt", "--dataset", "x"], "nowhere.pt does not exist"),
    ],
)
def test_mistakes_end_in_one_sentence(
    config_file, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    if "device=cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    path = str(config_file())
    assert run_cli(*(argument.replace("{config}", path) for argument in arguments)) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_trouble_with_a_file_is_said_too(config_file, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").mkdir()
    assert run_cli("fit", str(config_file())) == 2
    err = capsys.readouterr().err
    assert "metrics.jsonl" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["fit", "retrieval", "average"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(command, "--help") == 0
    assert f"Example: wit-train {command}" in " ".join(capsys.readouterr().out.split())


def test_retrieval_writes_table_json_and_sheet(
    config_file, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert run_cli("fit", str(config_file(schedule={"duration": "6 steps"}))) == 0
    sheet = tmp_path / "sheet.png"
    arguments = ["retrieval", str(run), "--dataset", str(dataset), "--limit", "30", "--contact-sheet", str(sheet)]
    assert run_cli(*arguments) == 0
    result = json.loads((run / "retrieval.json").read_text())
    assert (result["images"], result["split"], result["step"]) == (30, "val", 6)
    first = result["recall"]["text_to_image"]["strict"][0]
    assert first["k"] == 1
    assert first["chance"] == pytest.approx(1 / 30)
    assert first["low"] <= first["value"] <= first["high"]
    assert sheet.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "text to image" in out
    assert "chance" in out
    again = tmp_path / "again"
    checkpoint = sorted((run / "checkpoints").glob("*.pt"))[-1]
    assert run_cli("retrieval", str(checkpoint), "--dataset", str(dataset), "--limit", "30", "--out", str(again)) == 0
    assert json.loads((again / "retrieval.json").read_text()) == result


def test_the_trained_split_is_refused_unless_asked_for(
    config_file, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("fit", str(config_file(schedule={"duration": "2 steps"}))) == 0
    arguments = ["retrieval", str(tmp_path / "run"), "--dataset", str(dataset), "--split", "train"]
    assert run_cli(*arguments) == 2
    assert "--allow-train" in capsys.readouterr().err
    assert run_cli(*arguments, "--allow-train") == 0


def test_checkpoints_are_averaged_into_one(config_file, dataset: Path, tmp_path: Path) -> None:
    assert run_cli("fit", str(config_file(schedule={"duration": "10 steps"}, ema={"decay": 0.5}))) == 0
    paths = sorted((tmp_path / "run" / "checkpoints").glob("*.pt"))
    assert len(paths) == 2
    out = tmp_path / "average.pt"
    assert run_cli("average", *map(str, paths), "--out", str(out)) == 0
    found, parts = load_checkpoint(out), [load_checkpoint(path) for path in paths]
    assert found.info.averaged == [str(path) for path in paths]
    for name, tensor in found.model_state.items():
        torch.testing.assert_close(tensor, (parts[0].model_state[name] + parts[1].model_state[name]) / 2)
    assert run_cli("retrieval", str(out), "--dataset", str(dataset), "--limit", "30", "--out", str(tmp_path)) == 0
    assert run_cli("average", *map(str, paths), "--out", str(out)) == 2
    assert run_cli("average", str(paths[0]), "--out", str(tmp_path / "e.pt"), "--weights", "ema") == 0
    assert (
        load_checkpoint(tmp_path / "e.pt").model_state["visual.proj"].shape
        == parts[0].model_state["visual.proj"].shape
    )


def test_memory_is_shown_by_chunk(config_file, capsys: pytest.CaptureFixture[str]) -> None:
    path = config_file(memory={"chunk": 7})
    assert run_cli("memory", str(path), "--set", "data.batch_size=256", "--processes", "2") == 0
    said = capsys.readouterr().out
    assert "GiB per GPU, batch 256 over 2" in said
    assert "7 (set)" in said
    assert run_cli("memory", str(path), "--set", "objective.name=captioning") == 2
    assert run_cli("memory", str(path), "--set", "objective.name=contrastive_captioning") == 2
    assert "its decoder is not counted" in " ".join(capsys.readouterr().err.split())

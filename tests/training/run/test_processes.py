"""Whole runs by two processes on one CPU: the same weights as by one, taken up by any number, one voice."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from support.nursery import Nursery
from support.stop_at import StopAt

from openwit.schemas.common.settings import parse_settings
from openwit.training.checkpoints.files import Checkpoint, latest_checkpoint
from openwit.training.config import TrainConfig
from openwit.training.run.logs import read_metrics
from openwit.training.run.loop import fit
from openwit.training.run.progress import SilentDisplay


def alone(raw: dict[str, Any], display: Any = None) -> None:
    fit(parse_settings(raw, TrainConfig, "config"), display=display or SilentDisplay())


def written(raw: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(raw))
    return path


def newest(raw: dict[str, Any]) -> Checkpoint:
    found = latest_checkpoint(Path(raw["run"]), lambda _: None)
    assert found is not None
    return found


def assert_alike(one: Checkpoint, other: Checkpoint) -> None:
    """Equal but for rounding, in weights, averages and optimiser; the same samples seen."""
    assert one.info.position.samples == other.info.position.samples
    assert one.info.finished
    assert other.info.finished
    for kind in ("model", "ema"):
        for name, tensor in one.state[kind].items():
            torch.testing.assert_close(tensor, other.state[kind][name], rtol=1e-3, atol=1e-5, msg=f"{kind} {name}")
    assert one.state["optimizer"].keys() == other.state["optimizer"].keys()


def losses(raw: dict[str, Any]) -> list[Any]:
    return [(r["step"], r["samples"], r["loss"]) for r in read_metrics(Path(raw["run"])) if r["kind"] == "train"]


@pytest.fixture
def settings(configure: Any, tmp_path: Path) -> Any:
    def make(name: str, **more: Any) -> dict[str, Any]:
        base = {
            "run": str(tmp_path / name),
            "data": {**configure()["data"], "batch_size": 25},
            "schedule": {"duration": "24 steps", "warmup": "10%"},
            "optim": {"lr": 1e-3, "grad_clip": 1.0},
            "memory": {"chunk": 5},
            "ema": {"decay": 0.9, "evaluate": True},
            "checkpoint": {"every": "4 steps", "keep": 9},
        }
        made: dict[str, Any] = configure(**{**base, **more})
        return made

    return make


def test_two_processes_stop_together_and_one_goes_on(settings: Any, tmp_path: Path, nursery: Nursery) -> None:
    whole, parts = settings("whole"), settings("parts")
    alone(whole)

    def tell_the_second(processes: list[int]) -> None:
        until = time.monotonic() + 60
        while not list((tmp_path / "parts").glob("checkpoints/step-*4.json")):
            assert time.monotonic() < until
            time.sleep(0.02)
        os.kill(processes[1], signal.SIGTERM)

    first, second = nursery.pair(written(parts, tmp_path / "parts.yaml"), tell_the_second)
    assert (first[0], second[0]) == (143, 143), (first, second)
    assert "2 processes (replicate)" in first[1]
    assert "stopped by SIGTERM after step" in first[1]
    assert second[1:] == ("", "")
    stopped = newest(parts)
    assert stopped.info.processes == 2
    assert 4 <= stopped.info.step < 24
    alone(parts)
    assert_alike(newest(parts), newest(whole))
    for one, other in zip(losses(parts), losses(whole), strict=True):
        assert one[:2] == other[:2]
        assert one[2] == pytest.approx(other[2], rel=1e-4)


@pytest.mark.slow
def test_shards_go_on_where_one_process_left_off_under_torchrun(
    settings: Any, tmp_path: Path, nursery: Nursery
) -> None:
    short = {"schedule": {"duration": "12 steps", "warmup": "10%"}}
    whole, parts = settings("whole", **short), settings("parts", **short, distributed={"strategy": "fsdp"})
    alone(whole)
    alone(parts, StopAt(6))
    assert newest(parts).info.step == 6
    code, said, wrong = nursery.torchrun(written(parts, tmp_path / "parts.yaml"))
    assert code == 0, wrong
    assert said.count("training from step 6") == 1
    assert "2 processes (fsdp)" in said
    assert_alike(newest(parts), newest(whole))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fsdp", "replicate"])
def test_locked_parts_and_groups_in_two_processes(
    settings: Any, tmp_path: Path, nursery: Nursery, strategy: str
) -> None:
    spec = settings("any")["model"]["spec"]
    first = settings("first", schedule={"duration": "2 steps"})
    alone(first)
    more = {
        "model": {"spec": spec, "lock": {"image": "all", "text": 1}, "init": first["run"]},
        "optim": {"lr": 1e-3, "text_lr": 5e-4, "layer_decay": 0.7, "grad_clip": 1.0},
        "schedule": {"duration": "8 steps", "head_warmup": "25%"},
    }
    whole, parts = settings("whole", **more), settings("parts", **more, distributed={"strategy": strategy})
    alone(whole)
    ended = nursery.pair(written(parts, tmp_path / "parts.yaml"))
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert_alike(newest(parts), newest(whole))
    before, after = newest(first).model_state, newest(parts)
    locked = [name for name in before if name.startswith(("visual.", "text.transformer.resblocks.0.", "text.token"))]
    assert len(locked) > 20
    for state in (after.model_state, after.state["ema"]):
        assert [name for name in locked if not torch.equal(before[name], state[name])] == []
    assert not torch.equal(before["text.text_projection"], after.model_state["text.text_projection"])


@pytest.mark.parametrize(
    ("optimiser", "strategy"),
    [("adamw", "replicate"), pytest.param("muon", "fsdp", marks=pytest.mark.slow)],
)
def test_a_step_of_one_process_is_left_out_by_both_whatever_the_optimiser(
    settings: Any, tmp_path: Path, nursery: Nursery, optimiser: str, strategy: str
) -> None:
    optim = {"name": optimiser, "lr": 1e-3, "grad_clip": 1.0, "skip_non_finite": 3, "weight_decay": 0.1}
    more = {
        "optim": optim,
        "objective": {"name": "tests.support.planted.Planted", "nth": 3},
        "schedule": {"duration": "6 steps"},
        "checkpoint": {"every": "1 steps", "keep": 9},
        "eval": {"split": None},
        "ema": {},
        "log": {"tensorboard": False},
    }
    whole, parts = settings("whole", **more), settings("parts", **more, distributed={"strategy": strategy})
    alone(whole)
    ended = nursery.pair(written(parts, tmp_path / "parts.yaml"))
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert sum(said.count("the step is left out (1 of 3)") for _, said, _ in ended) == 1
    one, two = newest(whole), newest(parts)
    assert one.info.skipped == two.info.skipped == 1
    assert one.info.finished
    assert two.info.finished
    second, third, fourth = (
        torch.load(tmp_path / "parts" / "checkpoints" / f"step-{step:09d}.pt")["model"] for step in (2, 3, 4)
    )
    assert [name for name in second if not torch.equal(second[name], third[name])] == []
    assert [name for name in third if torch.equal(third[name], fourth[name])] == []
    # Muon orthogonalises in bf16, where a gradient's last bit may become the eighth of an update.
    margin = 2e-4 if optimiser == "muon" else 1e-5
    for name, tensor in one.model_state.items():
        torch.testing.assert_close(tensor, two.model_state[name], rtol=1e-3, atol=margin, msg=name)
    assert {name: state.keys() for name, state in one.state["optimizer"].items()} == {
        name: state.keys() for name, state in two.state["optimizer"].items()
    }
    for name, state in one.state["optimizer"].items():
        if "momentum_buffer" in state:
            found = two.state["optimizer"][name]["momentum_buffer"]
            torch.testing.assert_close(state["momentum_buffer"], found, rtol=1e-2, atol=1e-5, msg=name)


def test_trouble_of_one_process_ends_both_in_one_sentence(
    settings: Any, tmp_path: Path, nursery: Nursery, factory: SimpleNamespace
) -> None:
    samples = [factory.coloured(number, "s") for number in range(40)]
    samples[7] = factory.Made("bad", b"no image", ("text",))
    folder = factory.write_dataset(tmp_path / "d", {"train": samples})
    data = {"dataset": str(folder), "batch_size": 20, "max_corrupt": 0.0}
    raw = settings("bad", data=data, eval={"split": None})
    ended = nursery.pair(written(raw, tmp_path / "bad.yaml"))
    assert [code for code, _, _ in ended] == [2, 2], ended
    said = "".join(text for _, _, text in ended)
    assert said.count("\n") == 1, said
    assert "1 samples are unreadable, more than data.max_corrupt allows (0)" in said


@pytest.mark.parametrize(
    ("how", "waits", "words"),
    [
        ("gpu", True, "process 1: the GPU has not enough memory (20.00 GiB were asked for"),
        ("cpu", False, "process 1: this machine has not enough memory (1152921504606846976 bytes were asked for"),
        ("killed", False, "process 0 lost the connection to the others"),
        ("defect", True, "KeyError: 'defect'"),
    ],
)
def test_a_process_that_fails_ends_all_within_seconds(
    settings: Any, tmp_path: Path, nursery: Nursery, how: str, waits: bool, words: str
) -> None:
    raw = settings(how, objective={"name": "tests.support.failing.Failing", "how": how, "waits": waits})
    raw["eval"], raw["memory"] = {"split": None}, {}
    begun = time.monotonic()
    first, second = nursery.pair(written(raw, tmp_path / "raw.yaml"))
    assert time.monotonic() - begun < 30  # the group's own limit is half an hour
    assert first[0] == 2, first
    assert second[0] == {"killed": 9, "defect": 1}.get(how, 2), second
    said = first[2] + second[2]
    assert words in said
    if how != "defect":
        assert said.count("wit-train: ") == 1
        assert "Traceback" not in said

"""Runs that begin from weights or fork another run, and steps that are left out."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import load_settings, parse_settings
from openwit.training.checkpoints.files import Checkpoint, latest_checkpoint
from openwit.training.checkpoints.load import load_model
from openwit.training.config import TrainConfig
from openwit.training.config.zoo import ClipSpec
from openwit.training.models.clip import Clip
from openwit.training.models.weights import to_open_clip
from openwit.training.objectives.base import EmbeddingObjective, Loss
from openwit.training.run.logs import read_metrics
from openwit.training.run.loop import fit
from openwit.training.run.outcome import Outcome
from openwit.training.run.progress import SilentDisplay

# Heads of 64 channels, as in files that do not state them.
SPEC = ClipSpec.model_validate(
    {
        "embed_dim": 16,
        "vision": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1, "heads": 1},
        "text": {"context_length": 24, "width": 64, "layers": 1, "heads": 1},
    }
)


class Recorder(SilentDisplay):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def train(raw: dict[str, Any] | TrainConfig, display: Recorder | None = None) -> Outcome:
    config = raw if isinstance(raw, TrainConfig) else parse_settings(raw, TrainConfig, "config")
    return fit(config, display=display or Recorder())


def newest(run: Any) -> Checkpoint:
    found = latest_checkpoint(Path(run), print)
    assert found is not None
    return found


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


class Planted(EmbeddingObjective):
    """A loss that is not finite the n-th time it is computed."""

    planted: tuple[int, ...] = ()
    calls = 0

    def loss(self, model: Any, outputs: tuple[torch.Tensor, ...], *_: Any) -> Loss:
        Planted.calls += 1
        images, texts = outputs
        value = (1 - (images * texts).sum(dim=1)).mean() * model.logit_scale
        return Loss(value * (float("nan") if Planted.calls in self.planted else 1.0), {})


@pytest.fixture
def small(configure: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(Planted, "calls", 0)
    monkeypatch.setattr(Planted, "planted", ())

    def make(name: str = "run", **more: Any) -> dict[str, Any]:
        base = {
            "run": str(tmp_path / name),
            "schedule": {"duration": "6 steps", "warmup": "10%"},
            "checkpoint": {"every": "3 steps", "keep": 9},
            "eval": {"split": None},
        }
        made: dict[str, Any] = configure(**{**base, **more})
        return made

    return make


def weights_file(path: Path, layout: str) -> Clip:
    torch.manual_seed(11)
    model = Clip(SPEC)
    state = to_open_clip(model)
    if layout == "openai":
        state |= {"input_resolution": torch.tensor(32), "context_length": torch.tensor(24)}
        torch.save(state, path)
    else:
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, path)
    return model


@pytest.mark.parametrize("layout", ["openai", "open_clip"])
def test_fine_tuning_from_a_file_and_resuming_without_it(small: Any, tmp_path: Path, layout: str) -> None:
    file = tmp_path / "weights.pt"
    source = weights_file(file, layout)
    raw = small(model={"init": str(file)}, schedule={"duration": "2 steps", "warmup": "0%"}, optim={"lr": 1e-12})
    display = Recorder()
    train(raw, display)
    found = newest(raw["run"])
    # At this rate nothing is learned: the run's weights are those of the file.
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(found.model_state[name], tensor, rtol=0, atol=1e-9)
    origin = found.info.origin
    assert origin is not None
    assert (origin.kind, origin.path, origin.initial, origin.left_out) == ("weights", str(file), [], [])
    assert found.info.config.model.init.sha256 == origin.sha256
    assert found.info.config.model.spec.quick_gelu is (layout == "openai")
    assert any("tensors loaded" in line for line in display.said)
    assert any("64 channels wide" in line for line in display.said)
    (record,) = (record for record in read_metrics(Path(raw["run"])) if record["kind"] == "origin")
    assert record["sha256"] == origin.sha256


def test_a_stopped_run_needs_its_weights_no_more(small: Any, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    weights_file(file, "open_clip")
    whole, parts = (small(name, model={"init": {"weights": str(file)}}) for name in ("whole", "parts"))
    train(whole)
    train(parts)
    for path in (tmp_path / "parts" / "checkpoints").glob("step-*6.*"):
        path.unlink()
    file.unlink()
    assert train(parts).status == "finished"
    assert_same(newest(whole["run"]).model_state, newest(parts["run"]).model_state)
    assert newest(parts["run"]).info.origin == newest(whole["run"]).info.origin
    assert load_model(parts["run"]).model.spec == SPEC


def test_from_a_run_of_ours_and_its_average(small: Any) -> None:
    first = small("first", ema={"decay": 0.5})
    train(first)
    for use in ("model", "ema"):
        raw = small(use, model={"init": {"weights": first["run"], "use": use}}, optim={"lr": 1e-12})
        train(raw)
        expected = newest(first["run"]).state[use]["visual.proj"]
        torch.testing.assert_close(newest(raw["run"]).model_state["visual.proj"], expected, rtol=0, atol=1e-9)
        origin = newest(raw["run"]).info.origin
        assert origin is not None
        assert origin.sha256 == newest(first["run"]).info.sha256


def test_other_weights_in_the_same_folder_are_refused(small: Any, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    weights_file(file, "open_clip")
    raw = small(model={"init": {"weights": str(file)}})
    train(raw)
    config = Path(raw["run"]) / "config.json"
    torch.save({**to_open_clip(Clip(SPEC))}, file)
    with pytest.raises(OpenWITError, match=r"model.init: .* has the sha256"):
        train(load_settings(config, TrainConfig, [f"run={tmp_path / 'other'}"]))
    with pytest.raises(OpenWITError, match="model.init"):
        train(small())


def test_the_settings_of_init_are_checked(small: Any, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    weights_file(file, "open_clip")
    with pytest.raises(OpenWITError, match="set resize: true"):
        train(small(model={"init": {"weights": str(file), "image_size": 64}}))
    train(small(model={"init": {"weights": str(file), "image_size": 64, "resize": True}}))
    assert newest(small()["run"]).info.config.model.spec.vision.image_size == 64
    with pytest.raises(OpenWITError, match="lacks|shape"):
        train(small("other", model={"name": "vit-pico-64", "init": str(file)}))


def test_a_finished_run_goes_on_with_a_longer_schedule(small: Any, tmp_path: Path) -> None:
    constant = {"warmup": "0%"}
    first = small("first", schedule={"duration": "4 steps", **constant})
    train(first)
    longer = small("longer", fork=first["run"], schedule={"duration": "8 steps", **constant})
    display = Recorder()
    assert train(longer, display).position.step == 8
    assert display.said[0].startswith("training from step 4")
    assert any(line.startswith("forked from") for line in display.said)
    info = newest(longer["run"]).info
    assert info.origin is not None
    assert (info.origin.kind, info.origin.step, info.origin.samples) == ("fork", 4, 96)
    assert info.origin.sha256 == newest(first["run"]).info.sha256
    # Resumed without the run it was forked from.
    for path in (tmp_path / "longer" / "checkpoints").glob("step-*8.*"):
        path.unlink()
    (tmp_path / "first").rename(tmp_path / "moved")
    expected = newest(longer["run"])
    assert expected.info.step == 6
    assert train(longer).status == "finished"
    assert newest(longer["run"]).info.origin == info.origin
    with pytest.raises(OpenWITError, match="has already ended"):
        train(small("short", fork=str(tmp_path / "moved"), schedule={"duration": "4 steps", **constant}))


def test_a_fork_with_the_same_settings_is_the_same_run(small: Any, tmp_path: Path) -> None:
    whole = small("whole", ema={"decay": 0.9})
    train(whole)
    middle = tmp_path / "whole" / "checkpoints" / "step-000000003.pt"
    fork = small("fork", ema={"decay": 0.9}, fork={"checkpoint": str(middle)})
    train(fork)
    one, other = newest(whole["run"]).state, newest(fork["run"]).state
    assert_same(one["model"], other["model"])
    assert_same(one["ema"], other["ema"])


def test_a_fork_to_other_data_begins_them_anew(small: Any, factory: Any, tmp_path: Path) -> None:
    train(small("first"))
    samples = [factory.coloured(number, "o") for number in range(50)]
    folder = factory.write_dataset(tmp_path / "other", {"train": samples})
    data = {"dataset": str(folder), "batch_size": 10}
    raw = small("fork", fork=str(tmp_path / "first"), data=data, schedule={"duration": "200 samples"}, seed=5)
    display = Recorder()
    assert train(raw, display).position.samples == 200
    assert "other data, seed or batch size: their order begins anew" in display.said
    restart = {"checkpoint": str(tmp_path / "first"), "position": "restart", "optimizer": False}
    again = small("restart", fork=restart, data=data, schedule={"duration": "1 epochs"})
    assert train(again).position.step == 5
    with pytest.raises(OpenWITError, match="is the run itself"):
        train(small("first", fork=str(tmp_path / "first"), schedule={"duration": "9 steps"}))


def test_the_advice_after_a_step_that_is_not_finite_can_be_followed(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Planted, "planted", (4,))
    raw = small(objective={"name": f"{__name__}.Planted"})
    with pytest.raises(OpenWITError) as caught:
        train(raw)
    command = re.search("`(wit-train fit [^`]+)`", str(caught.value))
    assert command is not None
    program, verb, config, *options = shlex.split(command[1])
    assert (program, verb) == ("wit-train", "fit")
    assert options[::2] == ["--set"] * 3
    forked = load_settings(Path(config), TrainConfig, options[1::2])
    assert (forked.optim.lr, forked.run) == (1e-3, Path(f"{raw['run']}-2"))
    display = Recorder()
    outcome = train(forked, display)
    assert (outcome.status, outcome.position.step) == ("finished", 6)
    assert display.said[0].startswith("training from step 3")
    origin = newest(forked.run).info.origin
    assert origin is not None
    assert (origin.kind, origin.step) == ("fork", 3)
    # Before the first checkpoint there is nothing to go on from.
    monkeypatch.setattr(Planted, "calls", 3)
    with pytest.raises(OpenWITError, match="begin anew with a lower rate by `wit-train fit"):
        train(small("young", objective={"name": f"{__name__}.Planted"}))


def test_single_steps_are_left_out_counted_and_said(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planted, "planted", (3, 5))
    resnet = {"kind": "resnet", "image_size": 32, "layers": [1, 1, 1, 1], "width": 4, "heads": 4}
    raw = small(
        model={"spec": {**small()["model"]["spec"], "vision": resnet}},
        objective={"name": f"{__name__}.Planted"},
        optim={"lr": 1e-3, "skip_non_finite": 2},
        checkpoint={"every": "1 steps", "keep": 9},
    )
    display = Recorder()
    train(raw, display)
    assert "2 steps left out as not finite" in display.said[-1]
    assert sum("the step is left out" in line for line in display.said) == 2
    states = {path.stem: torch.load(path)["model"] for path in Path(raw["run"]).glob("checkpoints/*.pt")}
    assert_same(states["step-000000002"], {**states["step-000000003"], **_counters(states["step-000000002"])})
    assert not torch.equal(states["step-000000003"]["visual.bn1.bias"], states["step-000000004"]["visual.bn1.bias"])
    assert newest(raw["run"]).info.skipped == 2
    records = [record for record in read_metrics(Path(raw["run"])) if record["kind"] == "train"]
    assert [record["skipped"] for record in records] == [0, 0, 1, 1, 2, 2]
    # The count goes on after a resumption, and one more ends the run.
    for path in Path(raw["run"]).glob("checkpoints/step-*[56].*"):
        path.unlink()
    monkeypatch.setattr(Planted, "calls", 0)
    monkeypatch.setattr(Planted, "planted", (1, 2))
    with pytest.raises(OpenWITError, match="2 steps had been left out before"):
        train(raw)
    assert json.loads((Path(raw["run"]) / "non_finite.json").read_text())["step"] == 6


def _counters(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Batches seen, which batch normalisation counts in any case and nothing reads."""
    return {name: tensor for name, tensor in state.items() if name.endswith("num_batches_tracked")}

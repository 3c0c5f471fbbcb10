import json
import math
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import parse_settings
from openwit.training.checkpoints.files import latest_checkpoint, load_checkpoint
from openwit.training.config import TrainConfig
from openwit.training.data.sharded import ShardedDataset
from openwit.training.run.logs import read_metrics
from openwit.training.run.loop import fit
from openwit.training.run.outcome import Outcome
from openwit.training.run.progress import Status
from openwit.training.run.trainer import Trainer


class Recorder:
    """A display that remembers; `at` may act when a step is shown."""

    def __init__(self, at: Any = None) -> None:
        self.said: list[str] = []
        self.statuses: list[Status] = []
        self._at = at

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def wants(self) -> bool:
        return True

    def show(self, status: Status) -> None:
        self.statuses.append(status)
        if self._at is not None:
            self._at(status)

    def activity(self, what: str, done: int, whole: int) -> None:
        assert what == "evaluating"
        assert 0 <= done <= whole

    def close(self) -> None:
        pass


def train(raw: dict[str, Any], display: Recorder | None = None) -> Outcome:
    return fit(parse_settings(raw, TrainConfig, "config"), display=display or Recorder())


def weights(run: str) -> dict[str, torch.Tensor]:
    found = latest_checkpoint(Path(run), lambda _: None)
    assert found is not None
    return found.model_state


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def stop_at(step: int, number: signal.Signals = signal.SIGTERM) -> Any:
    return lambda status: signal.raise_signal(number) if status.step == step else None


def test_tensorboard_shows_the_sheet_and_the_final_metrics(configure) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    raw = configure(schedule={"duration": "2 steps"}, log={"every": 1, "line_seconds": 1000, "tensorboard": True})
    train(raw)
    events = EventAccumulator(str(Path(raw["run"]) / "tensorboard"))
    events.Reload()
    assert events.Tags()["images"] == ["eval/contact_sheet"]
    assert "eval/text_to_image_recall_at_1" in events.Tags()["scalars"]
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_it_learns_what_the_pictures_show(configure) -> None:
    raw = configure(
        data={**configure()["data"], "batch_size": 48},
        model={**configure()["model"], "patch_dropout": 0.0},
        optim={"lr": 3e-3},
        schedule={"duration": "18 epochs"},
        objective={"positives": "same_text"},
    )
    outcome = train(raw)
    assert outcome.status == "finished"
    assert outcome.position.samples == 18 * 288
    recall = outcome.recall.at("text_to_image", "strict", 5)
    assert recall.low > 2 * recall.chance
    losses = [record["loss"] for record in read_metrics(Path(raw["run"])) if record["kind"] == "train"]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("crop", ["random_crop", "random_resized_crop"])
def test_a_run_cut_in_two_is_the_same_run(configure, tmp_path: Path, crop: str) -> None:
    data = {**configure()["data"], "crop": crop, "horizontal_flip": True}
    whole, parts = configure(run=str(tmp_path / "whole"), data=data), configure(run=str(tmp_path / "parts"), data=data)
    train(whole)
    for step, number in ((7, signal.SIGTERM), (12, signal.SIGINT)):
        display = Recorder(stop_at(step, number))
        outcome = train(parts, display)
        assert (outcome.status, outcome.signal, outcome.position.step) == ("stopped", number, step)
        assert f"stopped by {number.name} after step {step}" in display.said[-1]
    # Threads and the schedule of checkpoints and evaluations are nobody's business but the machine's.
    parts = {**parts, "data": {**data, "workers": 0}, "eval": {"split": "val", "every": "4 steps"}}
    last = Recorder()
    assert train(parts, last).status == "finished"
    assert [status.step for status in last.statuses] == list(range(13, 21))
    assert_same(weights(whole["run"]), weights(parts["run"]))
    logged = [
        [(r["step"], r["loss"], r["lr"]) for r in read_metrics(Path(run)) if r["kind"] == "train"]
        for run in (whole["run"], parts["run"])
    ]
    assert logged[0] == logged[1]
    assert len(logged[0]) == 20


def test_a_broken_checkpoint_costs_steps_but_no_difference(configure, tmp_path: Path) -> None:
    whole, parts = configure(run=str(tmp_path / "whole")), configure(run=str(tmp_path / "parts"))
    train(whole)
    train(parts, Recorder(stop_at(13)))
    newest = sorted((tmp_path / "parts" / "checkpoints").glob("*.pt"))[-1]
    assert newest.name == "step-000000013.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    display = Recorder()
    train(parts, display)
    assert display.statuses[0].step == 11
    assert any("skipped a broken checkpoint" in line for line in display.said)
    assert_same(weights(whole["run"]), weights(parts["run"]))


def test_a_finished_run_is_left_alone(configure) -> None:
    raw = configure(schedule={"duration": "3 steps"})
    train(raw)
    before = {path: path.stat().st_mtime_ns for path in Path(raw["run"]).rglob("*.pt")}
    display = Recorder()
    assert train(raw, display).status == "already finished"
    assert "already finished" in display.said[-1]
    assert before == {path: path.stat().st_mtime_ns for path in Path(raw["run"]).rglob("*.pt")}


def test_seeds_matter_and_repeat(configure, tmp_path: Path) -> None:
    runs = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        raw = configure(run=str(tmp_path / name), seed=seed, schedule={"duration": "4 steps"})
        train(raw)
        runs[name] = weights(raw["run"])
    assert_same(runs["a"], runs["b"])
    assert not torch.equal(runs["a"]["visual.proj"], runs["c"]["visual.proj"])


def test_epochs_end_on_the_sample_even_in_a_smaller_batch(configure) -> None:
    raw = configure(data={**configure()["data"], "batch_size": 100}, schedule={"duration": "1 epochs"})
    outcome = train(raw)
    assert (outcome.position.step, outcome.position.samples) == (3, 288)


def test_minutes_end_with_the_clock(configure) -> None:
    outcome = train(configure(schedule={"duration": "1 s"}))
    assert outcome.status == "finished"
    assert 1.0 <= outcome.position.elapsed < 20


def test_another_configuration_is_refused_and_named(configure) -> None:
    train(configure(schedule={"duration": "2 steps"}))
    with pytest.raises(OpenWITError) as caught:
        train(configure(schedule={"duration": "2 steps"}, seed=4))
    message = str(caught.value)
    assert "seed = 3, but now seed is 4" in message
    assert "set another run folder" in message


def test_another_dataset_is_refused(configure, factory: SimpleNamespace, tmp_path: Path) -> None:
    raw = configure(schedule={"duration": "2 steps"})
    train(raw)
    samples = [factory.coloured(number, "o") for number in range(60)]
    other = factory.write_dataset(tmp_path / "other", {"train": samples, "val": samples[:5]})
    with pytest.raises(OpenWITError, match="another build of the dataset"):
        train({**raw, "data": {**raw["data"], "dataset": str(other)}})


def test_a_dataset_that_only_moved_is_accepted(configure, dataset: Path, tmp_path: Path) -> None:
    raw = configure(schedule={"duration": "2 steps"})
    train(raw)
    moved = shutil.copytree(dataset, tmp_path / "moved")
    assert train({**raw, "data": {**raw["data"], "dataset": str(moved)}}).status == "already finished"


def test_evaluating_on_the_training_split_is_refused(configure) -> None:
    with pytest.raises(OpenWITError, match="name a held-out split"):
        train(configure(eval={"split": "train"}))
    with pytest.raises(OpenWITError, match=r"eval\.split: .*no split 'test'.*null to train without"):
        train(configure(eval={"split": "test"}))


def test_a_run_without_evaluation(configure) -> None:
    outcome = train(configure(eval={"split": None}, schedule={"duration": "2 steps"}))
    assert (outcome.status, outcome.recall) == ("finished", None)


def test_a_loss_that_is_not_finite_stops_with_step_and_keys(configure, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = configure()
    original = Trainer._step

    def poisoned(self: Trainer, batch: Any, *rest: Any) -> Any:
        if rest[1] == 7:
            with torch.no_grad():
                self.model.logit_scale.fill_(math.nan)
        return original(self, batch, *rest)

    monkeypatch.setattr(Trainer, "_step", poisoned)
    with pytest.raises(OpenWITError, match=r"the loss is nan in step 8 \(samples t.* and 21 more"):
        train(raw)
    record = json.loads((Path(raw["run"]) / "non_finite.json").read_text())
    assert record["step"] == 8
    assert len(record["keys"]) == 24
    assert all(tensor.isfinite().all() for tensor in weights(raw["run"]).values())


def test_checkpoints_say_where_they_come_from(configure, dataset: Path) -> None:
    raw = configure(schedule={"duration": "6 steps"})
    train(raw)
    found = load_checkpoint(Path(raw["run"]) / "checkpoints" / "step-000000005.pt").info
    assert found.dataset_sha256 == ShardedDataset(dataset, "train").manifest_sha256
    assert (found.step, found.samples, found.finished) == (5, 120, False)


def test_unreadable_samples_are_counted_across_a_restart(configure, factory: SimpleNamespace, tmp_path: Path) -> None:
    samples = [factory.coloured(number, "s") for number in range(60)]
    samples[5] = factory.Made("bad", b"no image", ("text",))
    folder = factory.write_dataset(tmp_path / "d", {"train": samples, "val": samples[:5]})
    raw = configure(
        data={"dataset": str(folder), "batch_size": 20, "max_corrupt": 0.05}, schedule={"duration": "3 epochs"}
    )
    train(raw, Recorder(stop_at(4)))
    display = Recorder()
    outcome = train(raw, display)
    assert outcome.position.samples == 180
    assert "; 1 unreadable sample" in display.said[-1]
    found = latest_checkpoint(Path(raw["run"]), lambda _: None)
    assert found is not None
    assert found.info.corrupt == ["bad"]


def test_one_process_a_run_folder(configure) -> None:
    raw = configure(schedule={"duration": "3 steps"})
    refusals: list[str] = []

    def intrude(_: Status) -> None:
        with pytest.raises(OpenWITError) as caught:
            train(raw)
        refusals.append(str(caught.value))

    train(raw, Recorder(intrude))
    assert len(refusals) == 3
    assert "another process is training in" in refusals[0]

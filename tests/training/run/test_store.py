"""A run whose folder is a URL: the same checkpoints as on a disk, resumed from there, held by one process."""

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from openwit.schemas.common.errors import OpenWITError, StorageError
from openwit.schemas.common.settings import parse_settings
from openwit.schemas.common.storage.store_path import as_path
from openwit.training.checkpoints import files
from openwit.training.checkpoints.files import latest_checkpoint
from openwit.training.checkpoints.load import load_model
from openwit.training.config import TrainConfig
from openwit.training.run import loop, stored_lines
from openwit.training.run.logs import read_metrics
from openwit.training.run.progress import SilentDisplay
from openwit.training.run.stored_lines import StoredLines, joined


class Sentences(SilentDisplay):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


@pytest.fixture
def url() -> Any:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield "memory://bucket/run"
    memory.store.clear()


@pytest.fixture
def settings(configure: Any) -> Any:
    def make(run: Any) -> dict[str, Any]:
        made: dict[str, Any] = configure(
            run=str(run),
            schedule={"duration": "6 steps"},
            checkpoint={"every": "2 steps", "keep": 2},
            eval={"split": None},
        )
        return made

    return make


def train(raw: dict[str, Any]) -> list[str]:
    display = Sentences()
    loop.fit(parse_settings(raw, TrainConfig, "config"), display=display)
    return display.said


def test_a_run_in_a_store_is_the_run_on_a_disk(settings: Any, url: str, tmp_path: Path) -> None:
    train(settings(tmp_path / "disk"))
    train(settings(url))
    run = as_path(url)
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "disk" / "checkpoints").iterdir())
    assert [name for name in names if name.endswith(".pt")] == ["step-000000004.pt", "step-000000006.pt"]
    for name in names:
        if name.endswith(".pt"):
            assert (run / "checkpoints" / name).read_bytes() == (tmp_path / "disk" / "checkpoints" / name).read_bytes()
    losses = [[r["loss"] for r in read_metrics(where) if r["kind"] == "train"] for where in (run, tmp_path / "disk")]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6
    assert json.loads((run / "config.json").read_bytes())["run"] == url
    assert "already finished" in train(settings(url))[-1]
    assert load_model(url).description == "step 6, 144 samples seen"


@pytest.mark.parametrize("name", ["step-000000004.pt", "step-000000004.json"])
def test_a_kill_while_a_checkpoint_is_written_costs_steps_but_no_difference(
    settings: Any, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    raw = settings(url)
    train(settings(tmp_path / "whole"))
    whole = latest_checkpoint(tmp_path / "whole", lambda _: None)

    def killed(path: Path, *_: Any) -> Any:
        if path.name == name:
            raise KeyboardInterrupt
        return original(path, *_)

    what = "atomic_path" if name.endswith(".pt") else "atomic_write"
    original = getattr(files, what)
    with monkeypatch.context() as patched:
        patched.setattr(files, what, killed)
        with pytest.raises(KeyboardInterrupt):
            train({**raw, "checkpoint": {**raw["checkpoint"], "background": False}})
    said = train(raw)
    assert any("from step 2" in sentence for sentence in said), said
    found = latest_checkpoint(as_path(url), lambda _: None)
    assert found is not None
    assert whole is not None
    assert all(torch.equal(tensor, whole.model_state[key]) for key, tensor in found.model_state.items())
    assert [r["step"] for r in read_metrics(as_path(url)) if r["kind"] == "train"] == [1, 2, 3, 4, 5, 6]


def test_a_run_in_a_store_is_held_by_one_process(settings: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, refusals = settings(url), []
    original = loop.Trainer._step

    def intrude(self: Any, *rest: Any) -> Any:
        if not refusals:
            refusals.append("")
            with pytest.raises(StorageError) as caught:
                train(raw)
            refusals.append(str(caught.value))
        return original(self, *rest)

    monkeypatch.setattr("openwit.schemas.common.storage.leases.RENEW_S", 0.05)
    monkeypatch.setattr(loop.Trainer, "_step", intrude)
    train(raw)
    assert "another process is training in memory://bucket/run" in refusals[1]


def test_tensorboard_is_said_to_lie_elsewhere(settings: Any, url: str) -> None:
    raw = settings(url)
    said = train({**raw, "log": {**raw["log"], "tensorboard": True}})
    (note,) = (sentence for sentence in said if "TensorBoard" in sentence)
    folder = Path(note.split(" to ")[1].split(",")[0])
    assert list(folder.iterdir())


def test_a_url_with_a_password_is_refused(settings: Any) -> None:
    with pytest.raises(OpenWITError, match="user name or password"):
        parse_settings(settings("s3://key:secret@bucket/run"), TrainConfig, "config")


def test_lines_are_sent_now_and_then_and_at_the_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    original = stored_lines.atomic_write

    def noted(path: Path, text: str) -> None:
        sent.append(text)
        original(path, text)

    monkeypatch.setattr(stored_lines, "atomic_write", noted)
    now = [0.0]
    monkeypatch.setattr(stored_lines.time, "monotonic", lambda: now[0])
    path = as_path(url) / "metrics.jsonl"
    lines = StoredLines(path)
    for number in range(100):
        now[0] = float(number)
        lines.write(f"{number}\n")
    lines.flush()  # before a checkpoint
    assert lines._sending is not None
    lines._sending.result()
    wanted = "".join(f"{number}\n" for number in range(100))
    assert joined(path) == "".join(sent) == wanted  # each line was sent once
    lines.close()
    assert 4 <= len(sent) <= 6
    assert sent[-1] == path.read_text() == joined(path) == wanted
    assert not list((path.parent / "metrics.jsonl.parts").glob("*"))


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_kill_while_pieces_are_joined_neither_loses_nor_doubles_lines(url: str, left: int) -> None:
    path = as_path(url) / "metrics.jsonl"
    lines = StoredLines(path)
    for number in range(6):
        lines.write(f"{number}\n")
        if number % 2:
            lines.flush()
    lines._sending.result()  # type: ignore[union-attr]
    pieces = stored_lines._pieces(path)
    assert len(pieces) == 3
    path.write_bytes(joined(path).encode())
    for _, piece in reversed(pieces[left:]):
        piece.unlink()
    assert joined(path) == "0\n1\n2\n3\n4\n5\n"
    again = StoredLines(path)
    again.write("6\n")
    again.close()
    assert path.read_text() == joined(path) == "0\n1\n2\n3\n4\n5\n6\n"
    assert stored_lines._pieces(path) == []


def test_a_lost_lease_ends_the_run_at_its_next_log_or_checkpoint(
    settings: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes over while this one stands still; this one then writes nothing more."""
    raw = settings(url)
    monkeypatch.setattr("openwit.schemas.common.storage.leases.RENEW_S", 1000.0)
    original, steps = loop.Trainer._step, []

    def overtaken(self: Any, *rest: Any) -> Any:
        steps.append("")
        if len(steps) == 3:
            (as_path(url) / ".lock-000009").write_bytes(b"{}")
        return original(self, *rest)

    monkeypatch.setattr(loop.Trainer, "_step", overtaken)
    with pytest.raises(StorageError, match="memory://bucket/run: another command took it over, because this one"):
        train({**raw, "schedule": {"duration": "40 steps"}})
    assert len(steps) < 8
    checkpoints = sorted(path.name for path in (as_path(url) / "checkpoints").glob("*.pt"))
    assert checkpoints == ["step-000000002.pt"]
    assert all(record["step"] <= 4 for record in read_metrics(as_path(url)))  # type: ignore[operator]

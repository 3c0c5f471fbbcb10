"""Disks that fail at any write of a run, and records that are garbage: one sentence, and the run goes on."""

import errno
import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from support.faults import FAULTS, FailingWrites, read_only

from openwit.schemas.common.command import user_errors
from openwit.schemas.common.errors import DataError, DeviceError, OpenWITError, StorageError
from openwit.schemas.common.settings import parse_settings
from openwit.training.checkpoints.files import load_checkpoint
from openwit.training.config import TrainConfig
from openwit.training.run.logs import METRICS_NAME, MetricsLog
from openwit.training.run.loop import fit
from openwit.training.run.outcome import Outcome
from openwit.training.run.progress import SilentDisplay


def train(raw: dict[str, Any]) -> Outcome:
    return fit(parse_settings(raw, TrainConfig, "config"), display=SilentDisplay())


@pytest.fixture
def tiny(configure: Any, tmp_path: Path) -> Any:
    def make(name: str) -> dict[str, Any]:
        raw: dict[str, Any] = configure(
            run=str(tmp_path / name),
            schedule={"duration": "6 steps", "warmup": "10%"},
            checkpoint={"every": "2 steps", "keep": 3},
            eval={"split": None},
        )
        return raw

    return make


def test_a_fault_at_any_write_is_one_sentence_and_the_run_goes_on(tiny, tmp_path, monkeypatch, capsys) -> None:
    train(tiny("whole"))
    faults = FailingWrites(monkeypatch)
    for attempt in range(30):
        faults.at(1 + attempt, FAULTS[attempt % len(FAULTS)])
        with pytest.raises(SystemExit) as ended, user_errors("wit-train"):
            outcome = train(tiny("faulty"))
            raise SystemExit(0 if outcome.status in ("finished", "already finished") else 1)
        err = capsys.readouterr().err
        if faults.failed is None:
            break
        assert (ended.value.code, err.count("\n")) == (2, 1)
        assert str(tmp_path) in err
    assert (ended.value.code, err) == (0, "")
    one, other = (tmp_path / name / "checkpoints" / "step-000000006.pt" for name in ("whole", "faulty"))
    weights = load_checkpoint(one).model_state, load_checkpoint(other).model_state
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_equal_runs_have_equal_checkpoint_files(tiny, tmp_path) -> None:
    for name in ("a", "b"):
        train(tiny(name))
    files = [sorted((tmp_path / name / "checkpoints").glob("*.pt")) for name in ("a", "b")]
    assert len(files[0]) == 3
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_a_finished_run_on_a_read_only_disk_has_nothing_to_do(tiny, tmp_path) -> None:
    train(tiny("run"))
    with read_only(tmp_path / "run"):
        assert train(tiny("run")).status == "already finished"
    with read_only(tmp_path), pytest.raises(StorageError, match="Read-only file system"):
        train(tiny("new"))


@pytest.mark.parametrize("garbage", [b"", bytes(range(256)), b"[" * 100_000], ids=["empty", "binary", "deep"])
def test_garbage_in_the_records_of_a_run(tiny, tmp_path, garbage) -> None:
    raw = tiny("run")
    train(raw)
    run = tmp_path / "run"
    last = run / "checkpoints" / "step-000000006.json"
    written = last.read_bytes()
    last.write_bytes(garbage)
    with pytest.raises(DataError):
        load_checkpoint(last.with_suffix(".pt"))
    (run / METRICS_NAME).write_bytes(garbage)
    assert train(raw).status == "finished"  # from the checkpoint before
    assert last.read_bytes() != garbage
    described, before = (json.loads(data) for data in (last.read_bytes(), written))
    assert described["sha256"]
    assert before["step"] == described["step"]
    (run / "config.json").write_bytes(garbage)
    with pytest.raises(OpenWITError, match="config.json"):
        train(raw)


def test_a_changed_bit_in_a_checkpoints_description_is_noticed(tiny, tmp_path) -> None:
    train(tiny("run"))
    path = tmp_path / "run" / "checkpoints" / "step-000000006.json"
    path.write_bytes(path.read_bytes().replace(b'"samples": 144', b'"samples": 145'))
    with pytest.raises(DataError, match=r"step-000000006.json is damaged"):
        load_checkpoint(path.with_suffix(".pt"))


def test_a_full_disk_under_the_metrics_is_one_sentence(tiny, monkeypatch) -> None:
    def write(*_: Any) -> None:
        Path("/dev/full").write_text("x")

    monkeypatch.setattr(MetricsLog, "write", write)
    with pytest.raises(StorageError, match="no space is left on the disk of .*run"):
        train(tiny("run"))


@pytest.mark.parametrize("background", [True, False])
def test_a_disk_that_fills_within_a_checkpoint_is_one_sentence(tiny, tmp_path, background) -> None:
    raw = tiny("run")
    raw["checkpoint"]["background"] = background
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # a checkpoint has more than a megabyte
    try:
        with pytest.raises(StorageError, match=r"no space is left on the disk of .*checkpoints .*ulimit"):
            train(raw)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "run" / "checkpoints").glob("*.pt"))
    assert train(raw).status == "finished"


def test_a_checkpoint_that_failed_in_the_background_ends_the_run_at_once(tiny, tmp_path, monkeypatch) -> None:
    raw = tiny("run")
    raw["checkpoint"]["every"] = "1 steps"
    failing = [OSError(errno.ENOSPC, "No space left on device")]

    def save(*_: Any) -> None:
        raise failing[0]

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(StorageError, match="no space is left"):
        train(raw)
    assert len([line for line in (tmp_path / "run" / METRICS_NAME).read_text().splitlines() if '"train"' in line]) <= 2


def test_exhausted_memory_in_a_step_is_one_sentence(tiny) -> None:
    raw = tiny("run")
    raw["objective"] = {"name": "support.failing.Failing", "how": "gpu"}
    with pytest.raises(DeviceError, match=r"20.00 GiB were asked for; 3.06 GiB .*batch 24, memory.chunk is null"):
        train(raw)

"""A run whose folder lies on an S3 server on loopback: killed, resumed, and with faults, the same bits."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.faulty_s3 import BUCKET, faulty_s3
from support.nursery import Nursery

from openwit.schemas.common.settings import parse_settings
from openwit.schemas.common.storage.store_path import as_path
from openwit.training.checkpoints.files import latest_checkpoint
from openwit.training.config import TrainConfig
from openwit.training.run.logs import read_metrics
from openwit.training.run.loop import fit
from openwit.training.run.progress import SilentDisplay


@pytest.mark.slow
@pytest.mark.timeout(110)
def test_a_killed_run_on_s3_goes_on_to_the_same_bits(
    configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: Nursery
) -> None:
    url = f"s3://{BUCKET}/run"
    more = {
        "schedule": {"duration": "8 steps"},
        "checkpoint": {"every": "3 steps", "keep": 2, "background": True},
        "eval": {"split": None},
    }
    whole = parse_settings(configure(run=str(tmp_path / "whole"), **more), TrainConfig, "config")
    fit(whole, display=SilentDisplay())
    raw = configure(run=url, **more)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**raw, "schedule": {"duration": "8 steps"}}))
    with faulty_s3() as faults:
        for name, value in faults.environment.items():
            monkeypatch.setenv(name, value)
        run, begun = as_path(url), False
        # The first two requests of each kind are refused, in both processes.
        faults.first(2, 503)
        (tmp_path / "child.py").write_text(CHILD)
        child = nursery.start([str(tmp_path / "run.yaml")], tmp_path / "child.py", **faults.environment)
        until = time.monotonic() + 60
        while not begun and time.monotonic() < until:
            begun = (run / "checkpoints" / "step-000000003.json").exists()
            time.sleep(0.05)
        os.kill(child.pids[0], signal.SIGKILL)
        child.ended()
        assert begun
        stopped = latest_checkpoint(run, lambda _: None)
        assert stopped is not None
        assert 3 <= stopped.info.step < 8
        monkeypatch.setattr("openwit.schemas.common.storage.leases.LEASE_S", 1.0)
        faults.first(2, 503, "PUT")
        fit(parse_settings(raw, TrainConfig, "config"), display=SilentDisplay())
        assert faults.asked["PUT", "503"] == 2
        ends = [latest_checkpoint(where, lambda _: None) for where in (run, tmp_path / "whole")]
        assert ends[0] is not None
        assert ends[1] is not None
        assert ends[0].info.finished
        assert all(torch.equal(ends[0].model_state[name], tensor) for name, tensor in ends[1].model_state.items())
        told = [
            [(r["step"], r["loss"]) for r in read_metrics(where) if r["kind"] == "train"] for where in (run, whole.run)
        ]
        assert told[0] == told[1]
        assert len(told[0]) == 8
        assert not list((run / "metrics.jsonl.parts").glob("*"))


CHILD = """
import sys, time
from openwit.training.run import loop
step = loop.Trainer._step
def slowly(self, *rest):
    time.sleep(0.1)
    return step(self, *rest)
loop.Trainer._step = slowly
from openwit.training.cli.main import main
main(["fit", sys.argv[1]])
"""

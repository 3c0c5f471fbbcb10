import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openwit.schemas.common.errors import OpenWITError
from openwit.training.run.logs import METRICS_NAME, MetricsLog, plain_values, read_metrics


def test_records_are_kept_in_both_forms(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0, tensorboard=True) as log:
        log.write("train", 1, {"loss": 2.5, "grad": math.nan})
    assert read_metrics(tmp_path) == [{"kind": "train", "step": 1, "loss": 2.5, "grad": None}]
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_tensorboard_gets_the_configuration_its_values_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = {"seed": 3, "optim": {"lr": 0.1, "betas": [0.9, 0.98], "decay": None}}
    with MetricsLog(tmp_path, 0, tensorboard=True) as log:
        log.configuration(0, config)
        log.picture("eval", 4, "contact_sheet", np.zeros((3, 5, 3), np.uint8))
        log.write("eval", 4, {"recall": 0.5})
        log.hyper_parameters(config, {"eval/recall": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert tags["images"] == ["eval/contact_sheet"]
    assert tags["tensors"] == ["configuration/text_summary"]
    assert tags["scalars"] == ["eval/recall"]
    (text,) = events.Tensors("configuration/text_summary")
    assert b"lr: 0.1" in text.tensor_proto.string_val[0]
    plain = {"seed": 3, "optim.lr": 0.1, "optim.betas": "[0.9, 0.98]"}
    assert plain_values(config) == plain
    names = {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"}
    assert set(events.summary_metadata) >= names


def test_taking_up_removes_what_will_be_written_again(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0, tensorboard=False) as log:
        for step in range(1, 7):
            log.write("train", step, {"loss": step})
    with (tmp_path / METRICS_NAME).open("a") as file:
        file.write('{"kind": "train", "st')
    with MetricsLog(tmp_path, 4, tensorboard=False) as log:
        log.write("train", 5, {"loss": 50.0})
    lines = [json.loads(line) for line in (tmp_path / METRICS_NAME).read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 50.0)]


def test_warnings_are_records_of_their_own(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0, tensorboard=False) as log:
        log.warn(7, "loader_starving", "wait")
    assert read_metrics(tmp_path) == [{"kind": "warning", "step": 7, "cause": "loader_starving", "sentence": "wait"}]


class _Wandb:
    """What the package offers, as far as it is used."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.begun: dict[str, Any] = {}
        self.finished = False

    def init(self, **about: Any) -> "_Wandb":
        self.begun = about
        return self

    def log(self, figures: dict[str, Any], step: int) -> None:
        self.logged.append((step, figures))

    def finish(self) -> None:
        self.finished = True


def test_weights_and_biases_get_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = _Wandb()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    with MetricsLog(tmp_path, 0, tensorboard=False, wandb="mine", config={"seed": 1}) as log:
        log.write("train", 1, {"loss": 2.5})
    assert stand_in.logged == [(1, {"train/loss": 2.5})]
    assert (stand_in.begun["project"], stand_in.begun["config"], stand_in.finished) == ("mine", {"seed": 1}, True)


def test_weights_and_biases_are_missed_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(OpenWITError, match=r"pip install 'openwit\[wandb\]'"):
        MetricsLog(tmp_path, 0, tensorboard=False, wandb="mine")

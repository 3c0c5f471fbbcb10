import json
import math
from pathlib import Path

from training.logs import METRICS_NAME, MetricsLog, read_metrics


def test_records_are_kept_in_both_forms(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0, tensorboard=True) as log:
        log.write("train", 1, {"loss": 2.5, "grad": math.nan})
    assert read_metrics(tmp_path) == [{"kind": "train", "step": 1, "loss": 2.5, "grad": None}]
    assert list((tmp_path / "tensorboard").glob("events.*"))


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

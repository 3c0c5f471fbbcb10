"""Whole runs that contrast and caption: metrics, resumption, moving average, evaluation, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.stop_at import StopAt

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import parse_settings
from openwit.training.api import load_model
from openwit.training.checkpoints.files import latest_checkpoint
from openwit.training.config import TrainConfig
from openwit.training.config.choices import ExportLayout
from openwit.training.export.export import export_model
from openwit.training.run.logs import read_metrics
from openwit.training.run.loop import fit
from openwit.training.run.outcome import Outcome
from openwit.training.run.progress import SilentDisplay


def train(raw: dict[str, Any], display: Any = None) -> Outcome:
    return fit(parse_settings(raw, TrainConfig, "config"), display=display or SilentDisplay())


def test_a_run_resumes_bit_by_bit_and_is_evaluated_by_its_embeddings(configure: Any, tmp_path: Path) -> None:
    common = {
        "objective": {"name": "contrastive_captioning"},
        "schedule": {"duration": "4 steps"},
        "data": {**configure()["data"], "batch_size": 8},
        "precision": "bf16",
        "memory": {"chunk": 5},
        "ema": {"decay": 0.9},
    }
    whole = configure(run=str(tmp_path / "whole"), **common)
    parts = configure(run=str(tmp_path / "parts"), **common)
    outcome = train(whole)
    assert outcome.recall.images == 48
    assert train(parts, StopAt(2)).status == "stopped"
    assert train(parts).status == "finished"
    states = []
    for raw in (whole, parts):
        found = latest_checkpoint(Path(raw["run"]), lambda _: None)
        assert found is not None
        states.append(found.state)
    for kind in ("model", "ema"):
        for name, tensor in states[0][kind].items():
            assert torch.equal(tensor, states[1][kind][name]), name
    records = [record for record in read_metrics(tmp_path / "whole") if record["kind"] == "train"]
    for record in records:
        assert record["loss"] == pytest.approx(record["contrastive_loss"] + 2 * record["captioning_loss"], rel=1e-5)
    model = load_model(tmp_path / "whole", weights="ema")
    assert model.encode_text(["a red box", "a blue box at the left"]).shape == (2, 32)
    for layout in ExportLayout:
        with pytest.raises(RecipeError, match="trained for contrastive_captioning cannot be exported"):
            export_model(model, tmp_path / "out", layout=layout)


def test_an_image_tower_of_the_contrastive_objective_is_a_beginning(configure: Any, tmp_path: Path) -> None:
    few = {
        "schedule": {"duration": "1 steps"},
        "eval": {"split": None},
        "data": {**configure()["data"], "batch_size": 8},
    }
    train(configure(run=str(tmp_path / "first"), **few))
    init = {"weights": str(tmp_path / "first"), "parts": "image"}
    raw = configure(run=str(tmp_path / "second"), **few)
    raw["model"] = {**raw["model"], "init": init, "lock": {"image": "all"}}
    raw["objective"] = {"name": "contrastive_captioning", "image_pool": "model"}
    train(raw)
    states = [latest_checkpoint(tmp_path / name, lambda _: None) for name in ("first", "second")]
    assert states[0] is not None
    assert states[1] is not None
    for name, tensor in states[0].model_state.items():
        if name.startswith("visual."):
            assert torch.equal(tensor, states[1].model_state[name]), name

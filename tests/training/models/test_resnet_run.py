"""A whole run of a ResNet: the batch statistics must survive a stop as the weights do."""

from pathlib import Path
from typing import Any

import torch
from support.stop_at import StopAt

from openwit.schemas.common.settings import parse_settings
from openwit.training.checkpoints.files import latest_checkpoint
from openwit.training.config import TrainConfig
from openwit.training.models.clip import Clip
from openwit.training.models.weights import into_model, load_weights, model_from_weights, save_safetensors
from openwit.training.run.loop import fit

RESNET = {
    "embed_dim": 32,
    "vision": {"kind": "resnet", "image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "heads": 8},
    "text": {"context_length": 24, "width": 16, "layers": 1, "heads": 2},
}


def test_a_resnet_trains_stops_goes_on_and_is_saved(configure: Any, tmp_path: Path) -> None:
    def train(run: str, step: int | None = None) -> str:
        raw = configure(run=str(tmp_path / run), model={"spec": RESNET}, schedule={"duration": "6 steps"})
        return fit(parse_settings(raw, TrainConfig, "config"), display=StopAt(step)).status

    assert train("whole") == "finished"
    assert train("cut", step=3) == "stopped"
    assert train("cut") == "finished"
    whole, cut = (latest_checkpoint(tmp_path / run, print) for run in ("whole", "cut"))
    assert whole is not None
    assert cut is not None
    assert whole.model_state.keys() == cut.model_state.keys()
    for key, tensor in whole.model_state.items():
        assert torch.equal(tensor, cut.model_state[key]), key
    assert int(whole.model_state["visual.bn1.num_batches_tracked"]) == 6

    model = Clip(whole.info.config.model.resolved())
    into_model(model, load_weights(whole.path))
    assert model.visual.bn1.running_mean.any()
    save_safetensors(model, tmp_path / "model.safetensors")
    again, _ = model_from_weights(tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, whole.model_state[key]) for key, tensor in again.state_dict().items())

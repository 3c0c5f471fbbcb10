import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import load_settings
from openwit.training.checkpoints.files import Checkpoint, CheckpointInfo
from openwit.training.config import (
    DataSettings,
    ModelSettings,
    ScheduleSettings,
    TrainConfig,
    objective_settings,
)
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sharded import Sample
from openwit.training.objectives.registry import make_model
from openwit.workflows.figure2.__main__ import main
from openwit.workflows.figure2.matching import measure, table_of

FOLDER = Path(__file__).parents[3] / "workflows" / "figure2"
SPEC = ClipSpec(
    embed_dim=16,
    vision=VisionSpec(image_size=16, patch_size=8, width=16, layers=1, heads=2),
    text=TextSpec(context_length=8, width=16, layers=1, heads=2),
)


class Pictures:
    """A split of noise, of which one sample is broken and one repeats a text."""

    split = "val"

    def __len__(self) -> int:
        return 12

    def sample(self, index: int) -> Sample:
        if index == 1:
            raise CorruptSampleError(f"{index}", "broken")
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(index).integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(buffer, "PNG")
        return Sample(f"{index}", buffer.getvalue(), (f"number {min(index, 10)}", "another"))


def checkpoint_of(name: str, split: str = "train") -> Checkpoint:
    config = TrainConfig(
        run=Path("run"),
        data=DataSettings(dataset=Path("dataset"), split=split),
        model=ModelSettings(spec=SPEC),
        objective=objective_settings(name),
        schedule=ScheduleSettings(duration="1 steps"),
    )
    torch.manual_seed(0)
    info = CheckpointInfo(
        step=1,
        samples=128,
        elapsed=1.0,
        finished=True,
        config=config,
        dataset_name="made",
        dataset_sha256="",
        corrupt=[],
        torch_version="",
    )
    return Checkpoint(Path("step-1.pt"), info, {"model": make_model(config.model, config.objective).state_dict()})


def test_the_four_runs_differ_in_objective_and_folder_only() -> None:
    configs = [load_settings(path, TrainConfig) for path in sorted(FOLDER.glob("train-*.yaml"))]
    assert [config.objective.name for config in configs] == ["bag_of_words", "captioning", "contrastive", "sigmoid"]
    assert [config.run.name for config in configs] == [config.objective.name for config in configs]
    alike = [config.model_dump(exclude={"run", "objective"}) for config in configs]
    assert all(other == alike[0] for other in alike)


@pytest.mark.parametrize("name", ["contrastive", "sigmoid", "bag_of_words", "captioning"])
def test_every_objective_is_scored_on_the_same_choice(name: str) -> None:
    point = measure("run", checkpoint_of(name), Pictures(), 10)
    assert (point.objective, point.samples) == (name, 128)
    assert 0 <= point.image_to_text <= 1
    assert 0 <= point.text_to_image <= 1
    assert table_of([point], 10).row_count == 1


def test_what_tells_nothing_apart_is_right_about_nothing() -> None:
    checkpoint = checkpoint_of("contrastive")
    for tensor in checkpoint.state["model"].values():
        tensor.zero_()
    point = measure("run", checkpoint, Pictures(), 10)
    assert (point.image_to_text, point.text_to_image) == (0, 0)


def test_too_few_images_and_the_trained_split_are_refused() -> None:
    with pytest.raises(OpenWITError, match="10 readable images"):
        measure("run", checkpoint_of("contrastive"), Pictures(), 11)
    with pytest.raises(OpenWITError, match="trained on split 'val'"):
        measure("run", checkpoint_of("contrastive", "val"), Pictures(), 10)


def test_a_run_without_checkpoints_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["figure2", "compare", str(tmp_path), "--dataset", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "holds no checkpoint" in capsys.readouterr().err

from pathlib import Path

import pytest
import yaml

from schemas.errors import UserError
from schemas.settings import load_settings, parse_settings
from training.config import TrainConfig, first_difference

WORKFLOWS = Path(__file__).parents[2] / "workflows"


def parse(raw: dict) -> TrainConfig:
    return parse_settings(raw, TrainConfig, "config")


def test_defaults_are_the_papers() -> None:
    config = parse({"run": "r", "data": {"dataset": "d"}, "schedule": {"duration": "32 epochs"}})
    assert config.optim.betas == (0.9, 0.98)
    assert config.optim.eps == 1e-6
    assert config.optim.weight_decay == 0.2
    assert config.data.crop == "random_crop"
    assert config.objective.positives == "pair"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modle": {}}, "did you mean 'model'"),
        ({"model": {"name": "ViT-Z"}}, "known models: ViT-B/32"),
        ({"model": {"name": "ViT-B/32", "spec": {}}}, "not both"),
        ({"model": {"spec": {"vision": {"image_size": 30, "patch_size": 8}}}}, "patch_size 8 must divide"),
        ({"model": {"spec": {"text": {"width": 30, "heads": 4}}}}, "heads 4 must divide"),
        ({"schedule": {"duration": "10 lightyears"}}, "schedule.duration"),
        ({"schedule": {"duration": "50%"}}, "cannot be a percentage"),
        ({"schedule": {"duration": "0 steps"}}, "more than nothing"),
        ({"schedule": {"duration": "4 min", "warmup": "10 steps"}}, "give a percentage"),
        ({"data": {"dataset": "d", "crop_scale": [0.9, 0.1]}}, "crop_scale"),
        ({"data": {"dataset": "d", "crop_ratio": [0, 1]}}, "crop_ratio"),
        ({"data": {"dataset": "d", "batch_size": 0}}, "data.batch_size"),
    ],
)
def test_mistakes_are_named(configure, change: dict, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(configure(**change))
    assert words in str(caught.value)


def test_only_keys_that_decide_what_is_learned_tell_runs_apart(configure) -> None:
    old = parse(configure())
    same = configure(log={"every": 99}, checkpoint={"keep": 1}, threads=2, run="elsewhere")
    same["data"] = {**same["data"], "workers": 0, "dataset": "moved"}
    assert first_difference(old, parse(same)) is None
    other = configure(optim={"lr": 1e-4})
    assert first_difference(old, parse(other)) == ("optim.lr", 2e-3, 1e-4)


def test_a_configuration_survives_its_json(configure) -> None:
    config = parse(configure())
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*/train.yaml")), ids=lambda path: path.parent.name)
def test_shipped_configurations_are_valid(path: Path) -> None:
    config = load_settings(path, TrainConfig)
    assert config.data.split == "train"
    assert config.eval.split != "train"
    assert not config.run.is_absolute()
    assert set(yaml.safe_load(path.read_text())) <= set(TrainConfig.model_fields)

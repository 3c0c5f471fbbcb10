from pathlib import Path

import pytest
import yaml

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import load_settings, parse_settings
from openwit.training.config import TrainConfig
from openwit.training.run.resume_check import first_difference

WORKFLOWS = Path(__file__).parents[3] / "workflows"


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
    with pytest.raises(OpenWITError) as caught:
        parse(configure(**change))
    assert words in str(caught.value)


def test_only_keys_that_decide_what_is_learned_tell_runs_apart(configure) -> None:
    old = parse(configure())
    same = configure(log={"every": 99}, checkpoint={"keep": 1}, threads=2, run="elsewhere")
    same["data"] = {**same["data"], "workers": 0, "dataset": "moved"}
    assert first_difference(old, parse(same)) is None
    other = configure(optim={"lr": 1e-4})
    assert first_difference(old, parse(other)) == ("optim.lr", 2e-3, 1e-4)


def test_datasets_tars_and_tokenizers_may_move(configure) -> None:
    def config(datasets: list[dict] | None = None, tars: list[str] | None = None) -> TrainConfig:
        return parse(configure(data={"datasets": datasets, "tars": tars}))

    two = [{"dataset": "a", "weight": 3}, {"dataset": "b", "weight": 1}]
    moved = [{"dataset": "x/a", "weight": 3}, {"dataset": "x/b", "weight": 1}]
    weighed = [{"dataset": "a", "weight": 3}, {"dataset": "b", "weight": 2}]
    assert first_difference(config(two), config(moved)) is None
    assert first_difference(config(two), config(weighed)) == ("data.datasets.1.weight", 1.0, 2.0)
    found = first_difference(config(two), config(two[:1]))
    assert found is not None
    assert found[0] == "data.datasets"
    assert first_difference(config(tars=["a"]), config(tars=["b", "c"])) is None
    old, new = (TrainConfig.model_validate(configure()) for _ in range(2))
    old = old.model_copy(update={"model": old.model.model_copy(update={"tokenizer": Path("here.txt")})})
    new = new.model_copy(update={"model": new.model.model_copy(update={"tokenizer": Path("there.txt")})})
    assert first_difference(old, new) is None


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("paper/*.yaml")), ids=lambda path: path.stem)
def test_the_papers_recipes_are_those_of_table_18(path: Path) -> None:
    config = load_settings(path, TrainConfig)
    resnet = path.stem.startswith("train-rn")
    assert config.data.batch_size == 32_768
    assert config.data.crop == "random_crop"
    assert not config.data.horizontal_flip
    assert config.memory.chunk is not None
    assert str(config.schedule.duration) == "32 epochs"
    assert str(config.schedule.warmup) == "2000 steps"
    assert (config.optim.lr, config.optim.weight_decay, config.optim.grad_clip) == (5e-4, 0.2, None)
    assert config.optim.betas == ((0.9, 0.999) if resnet else (0.9, 0.98))
    assert config.optim.eps == (1e-8 if resnet else 1e-6)
    assert config.model.resolved().text.vocabulary == 49_408
    assert config.model.name == ("RN50" if resnet else "ViT-B/32")


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

"""The JSON Schema of recipes accepts what `wit build` accepts, and refuses wrong keys and values."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from openwit.pipeline.cli.start import settings
from openwit.pipeline.inputs.settings import SOURCES
from openwit.pipeline.recipe_schema import recipe_schema
from openwit.training.config.train import TrainConfig

WORKFLOWS = Path(__file__).parents[2] / "workflows"
YAML = {path: yaml.safe_load(path.read_text()) for path in sorted(WORKFLOWS.rglob("*.yaml"))}
RECIPES = [path for path, held in YAML.items() if "steps" in held]
CONFIGS = [path for path, held in YAML.items() if "schedule" in held]
RECIPE = jsonschema.Draft202012Validator(recipe_schema())
CONFIG = jsonschema.Draft202012Validator(TrainConfig.model_json_schema())


def errors(validator, held):
    return [error.message for error in validator.iter_errors(json.loads(json.dumps(held)))]


def test_there_are_recipes_and_configurations():
    assert len(RECIPES) >= 4
    assert len(CONFIGS) >= 4


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recipe_fits(path):
    assert errors(RECIPE, YAML[path]) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_configuration_fits(path):
    assert errors(CONFIG, YAML[path]) == []


STEPS = [
    {"queries": {"tables": ["q.txt"]}},
    "fetch",
    {"select": "all"},
    {"stage": "dedup", "name": "none", "settings": "keep"},
    {"stage": "mypkg.memes.NoMemes", "name": "x", "from": {"images": "fetch"}, "settings": {"share": 0.1}},
    {"mypkg.memes:NoMemes": None},
    {"stage": "select", "from": {"candidates": ["old", "new"]}, "settings": {"cap": 3}},
    {"candidates": {"inputs": ["a.csv"], "filters": {"custom": ["mypkg.f", {"name": "mypkg.g", "words": 3}]}}},
]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_every_form_of_a_step_fits(step):
    assert errors(RECIPE, {"name": "x", "steps": [step]}) == []


@pytest.mark.parametrize(
    "step",
    [
        {"queries": {"table": ["q.txt"]}},
        {"select": {"cap": 0}},
        {"select": {"balance": "caps"}},
        {"select": "everything"},
        {"fetch": "all"},
        {"selection": {}},
        "selection",
        {"stage": "select", "setting": {}},
        {"select": {}, "fetch": {}},
        {"fetch": {"image": {"size": "large"}}},
    ],
    ids=str,
)
def test_wrong_keys_and_values_do_not_fit(step):
    assert errors(RECIPE, {"name": "x", "steps": [step]})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("schedule", "duration", "many steps"), ("optim", "lr", "fast"), ("data", "crops", 3), ("eval", "evaluators", 3)],
)
def test_wrong_configurations_do_not_fit(section, key, value):
    held = copy.deepcopy(YAML[CONFIGS[0]])
    held.setdefault(section, {})[key] = value
    assert errors(CONFIG, held)


def test_evaluators_and_durations_are_written_as_text():
    held = copy.deepcopy(YAML[CONFIGS[0]])
    held["eval"] = {"evaluators": ["retrieval", {"name": "retrieval", "every": "5 min"}]}
    held["schedule"] = {"duration": "1e3 samples", "warmup": "5%"}
    assert errors(CONFIG, held) == []


@pytest.mark.parametrize("source", ["wordnet", {"wikipedia": None}, {"commoncrawl": {"files": 3}}], ids=str)
def test_every_form_of_an_input_fits(source):
    assert errors(RECIPE, {"name": "x", "inputs": [source], "steps": ["fetch"]}) == []


@pytest.mark.parametrize("source", ["wordnets", {"commoncrawl": {"file": 3}}, {"pageviews": {"hours": 0}}], ids=str)
def test_wrong_inputs_do_not_fit(source):
    assert errors(RECIPE, {"name": "x", "inputs": [source], "steps": ["fetch"]})


def test_the_settings_of_inputs_are_listed(capsys):
    settings("inputs")
    listed = capsys.readouterr().out
    for name, model in SOURCES.items():
        for key in model.model_fields:
            assert f"inputs.{name}.{key}  (" in listed
    settings("inputs.commoncrawl")
    assert "inputs.wikipedia" not in capsys.readouterr().out

"""Every setting of both commands is listed with type, default and meaning."""

import pydantic
import pytest
import yaml

from openwit.pipeline.inputs.settings import SOURCES
from openwit.pipeline.stages import all_stages
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings_reference import find_settings, listing, sections_in, settings_reference
from openwit.training.config.train import TrainConfig

SETTINGS = [found for stage in all_stages() for found in settings_reference(stage.settings, stage.name)]
TRAINING = settings_reference(TrainConfig)


def classes_below(model, found):
    if model not in found:
        found.add(model)
        for field in model.model_fields.values():
            for section in sections_in(field.annotation):
                classes_below(section, found)
    return found


INPUTS = [found for name, model in SOURCES.items() for found in settings_reference(model, f"inputs.{name}")]


def test_every_setting_has_a_meaning_and_a_type():
    for setting in (*SETTINGS, *INPUTS, *TRAINING):
        assert setting.type, setting.key
        if setting.type != "settings" and not setting.key.endswith(("model", "objective", "vision", "text")):
            assert setting.meaning, setting.key


@pytest.mark.parametrize("model", [*(stage.settings for stage in all_stages()), TrainConfig], ids=lambda m: m.__name__)
def test_no_class_of_settings_is_left_out(model):
    keys = {setting.key.replace("[]", "").rpartition(".")[2] for setting in settings_reference(model)}
    for section in classes_below(model, set()):
        plain = {
            name
            for name, field in section.model_fields.items()
            if not (isinstance(field.annotation, type) and sections_in(field.annotation))
        }
        assert plain <= keys


def test_defaults_are_the_values_that_an_empty_file_gives():
    for stage in all_stages():
        for setting in settings_reference(stage.settings):
            if setting.default is None or setting.choice or "[]" in setting.key:
                continue
            value, model = None, stage.settings
            for part in setting.key.split("."):
                field = model.model_fields[part]
                value = field.get_default(call_default_factory=True)
                nested = sections_in(field.annotation)
                model = nested[0] if nested else model
            plain = yaml.safe_load(setting.default)
            assert pydantic.TypeAdapter(field.annotation).validate_python(plain) == value, setting.key


def test_types_are_in_words():
    types = {setting.key: (setting.type, setting.default) for setting in (*SETTINGS, *TRAINING)}
    assert types["select.cap"] == ("integer, >= 1, <= 1000000000000", "20000")
    assert types["select.balance"] == ("one of cap, probabilistic, all", '"cap"')
    assert types["optim.betas"][0] == "list of 2: number, number"
    assert types["schedule.duration"] == (
        "duration: number and unit (steps, samples, epochs, s, min, h or %)",
        None,
    )
    assert types["queries.bigrams"][0] == "settings or null"
    assert types["queries.bigrams.top"] == ("integer or null, >= 1, <= 1000000000", "null")
    assert types["candidates.filters.custom"][0] == "list of dotted name, or mapping with name and settings"
    choices = {setting.choice for setting in TRAINING if setting.key == "objective.name"}
    assert choices == {
        "name: contrastive",
        "name: sigmoid",
        "name: bag_of_words",
        "name: captioning",
        "name: contrastive_captioning",
    }
    assert types["objective"][0] == "settings or dotted name, or mapping with name and settings"
    assert {"built-in", "your own, by dotted name"} == {
        found.choice for found in TRAINING if found.key == "model.name"
    }


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        ("card", {"card.examples", "card.queries", "card.query_examples"}),
        (
            "queries.bigrams",
            {"queries.bigrams", *(f"queries.bigrams.{key}" for key in ("min_count", "min_pmi", "top"))},
        ),
        ("crawl_delay", {"fetch.download.max_crawl_delay_s"}),
    ],
)
def test_settings_are_found_by_key_and_by_word(wanted, keys):
    assert {setting.key for setting in find_settings(SETTINGS, wanted)} == keys


def test_a_key_that_is_not_there_is_one_sentence():
    with pytest.raises(RecipeError, match=r"no setting has 'selct' in its key or meaning; did you mean 'select"):
        find_settings(SETTINGS, "selct")


def test_the_list_is_wrapped():
    lines = listing(find_settings(SETTINGS, "select"), 60).splitlines()
    assert lines[0] == "select.cap  (integer, >= 1, <= 1000000000000; default 20000)"
    assert lines[1].startswith("    ")
    assert max(map(len, lines)) <= 60

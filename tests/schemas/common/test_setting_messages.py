"""No wrong value of any setting is answered with pydantic's own words or the name of a Python class."""

import re

import pydantic
import pytest

from openwit.pipeline.stages import all_stages
from openwit.pipeline.step import Step
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import parse_settings
from openwit.schemas.common.settings_reference import sections_in
from openwit.training.config.train import TrainConfig

WRONG = ["x y z", -1, 1e30, 0.5, True, None, [], {}, [None], {"a": [1]}, [[1, 2], 3]]
FOREIGN = re.compile(r"[Ii]nput (should|is)|[Vv]alid |instance|<class|Settings|pydantic|NoneType|dict\b|tuple")


def with_value(key, value):
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def keys_of(model, prefix=""):
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type):
            for section in sections_in(field.annotation):
                yield from keys_of(section, f"{prefix}{name}.")


def refusals(model, key):
    """The wrong values of a key that are refused, with what the message says beside the key and the value."""
    for value in WRONG:
        try:
            parse_settings(with_value(key, value), model, "file.yaml")
        except RecipeError as error:
            yield key, value, str(error).partition(" (got ")[0].replace(repr(key), "")


@pytest.mark.parametrize("model", [*(stage.settings for stage in all_stages()), TrainConfig], ids=lambda m: m.__name__)
def test_wrong_values_are_answered_in_plain_words(model):
    refused = [found for key in keys_of(model) for found in refusals(model, key)]
    assert refused or not model.model_fields
    for key, value, message in refused:
        assert not FOREIGN.search(message), f"{key} = {value!r}: {message}"
        assert "\n" not in message


@pytest.mark.parametrize(
    ("stage", "settings", "sentence"),
    [
        ("select", {"cap": 0}, "step select: key 'cap': must be at least 1 (got 0)"),
        ("select", {"cap": "many"}, "step select: key 'cap': must be an integer (got 'many')"),
        ("select", {"tail_share": 1}, "step select: key 'tail_share': must be below 1.0 (got 1)"),
        ("select", {"balance": "x"}, "step select: key 'balance': must be 'cap', 'probabilistic' or 'all' (got 'x')"),
        ("fetch", {"image": 3}, "step fetch: key 'image': must hold settings (key: value) (got 3)"),
        ("fetch", {"image": {"mode": "x"}}, "key 'image.mode': must be 'no', 'border', 'keep_ratio', "),
        ("dedup", {"merge_texts": "perhaps"}, "step dedup: key 'merge_texts': must be true or false (got 'perhaps')"),
        ("queries", {"language": "EN"}, "step queries: key 'language': must match ^[a-z]"),
        ("shard", {"bytes": "many"}, "key 'bytes': must be a number of bytes, such as 500MB or 1GiB (got 'many')"),
    ],
)
def test_the_sentence_says_what_would_be_right(stage, settings, sentence):
    with pytest.raises(RecipeError) as refused:
        Step(stage, settings)
    assert sentence in str(refused.value)


def test_every_kind_of_error_has_its_words():
    """Each kind that pydantic can report for the types of our settings is in the table, or its text passes."""

    class Odd(pydantic.BaseModel):
        text: list[int]

    with pytest.raises(pydantic.ValidationError) as refused:
        Odd.model_validate({"text": {"a": 1}})
    assert refused.value.errors()[0]["type"] == "list_type"

"""Every number of a configuration has bounds: no infinity, no NaN, and nothing that is absurdly large."""

import itertools
import math
import types
import typing
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import Settings, parse_settings
from openwit.training.config import TrainConfig
from openwit.training.config.zoo import InputSpec

ABSURD: dict[type, tuple[Any, ...]] = {
    int: (10**30, -(10**30), math.inf, math.nan),
    float: (math.inf, -math.inf, math.nan, 1e300, -1e300),
}
# Keys without which the validators of the whole section do not run.
NEEDED: dict[str, dict[str, Any]] = {
    "InitSettings": {"weights": "w.pt", "resize": True},
    "DataSettings": {"dataset": "d"},
    "CaptionWeights": {"weights": {"alt": 1.0}},
}


def parts(annotation: Any) -> Iterator[Any]:
    """An annotation and all that it is made of."""
    yield annotation
    for inner in typing.get_args(annotation):
        if not isinstance(inner, str | int | pydantic.fields.FieldInfo):
            yield from parts(inner)


def sections() -> list[type[pydantic.BaseModel]]:
    """Every settings class that a configuration can hold."""
    found: list[type[pydantic.BaseModel]] = []
    waiting: list[type[pydantic.BaseModel]] = [TrainConfig, InputSpec]
    while waiting:
        model = waiting.pop()
        if model in found:
            continue
        found.append(model)
        for field in model.model_fields.values():
            waiting += [one for one in parts(field.annotation) if isinstance(one, type) and is_section(one)]
    return found


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and not typing.get_origin(kind) and issubclass(kind, pydantic.BaseModel)


def absurd(annotation: Any) -> Iterator[Any]:
    """Values that fit a type of numbers, and that no setting should take."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in ABSURD:
        yield from ABSURD[annotation]
    elif origin is typing.Annotated:
        yield from absurd(arguments[0])
    elif origin in (typing.Union, types.UnionType):
        yield from itertools.chain.from_iterable(absurd(one) for one in arguments)
    elif origin is tuple:
        for place, one in enumerate(arguments):
            for value in absurd(one):
                yield [value if number == place else 0.5 for number in range(len(arguments))]
    elif origin is dict:
        yield from ({"x": value} for value in absurd(arguments[1]))
    elif origin is list:
        yield from ([value] for value in absurd(arguments[0]))


NUMBERS = [
    pytest.param(model, name, value, id=f"{model.__name__}.{name}={value}")
    for model in sections()
    for name, field in model.model_fields.items()
    for value in absurd(field.annotation)
]


def test_all_sections_are_found() -> None:
    names = {model.__name__ for model in sections()}
    assert {"OptimSettings", "DataSettings", "ResNetSpec", "SigmoidSettings", "Duration", "ColourJitter"} <= names
    assert len(NUMBERS) > 300


@pytest.mark.parametrize(("model", "name", "value"), NUMBERS)
def test_no_number_is_unbounded(model: type[pydantic.BaseModel], name: str, value: Any) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate({**NEEDED.get(model.__name__, {}), name: value})
    errors = caught.value.errors()
    assert any(one["loc"][:1] == (name,) or name in one["msg"] for one in errors), errors


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("optim", {"lr": math.inf}, "optim.lr"),
        ("optim", {"lr": 1e4}, "optim.lr"),
        ("optim", {"betas": [0.9, 1.0]}, "optim.betas.1"),
        ("optim", {"betas": [-0.1, 0.9]}, "optim.betas.0"),
        ("data", {"dataset": "d", "workers": 10**6}, "data.workers"),
        ("data", {"dataset": "d", "batch_size": 10**12}, "data.batch_size"),
        ("schedule", {"duration": "1e300 steps"}, "schedule.duration"),
        ("schedule", {"duration": "10 steps", "warmup": "500%"}, "longer than the run"),
        ("distributed", {"timeout": "1e9 h"}, "more than 30 days"),
        ("model", {"spec": {"vision": {"image_size": 10**7, "patch_size": 1}}}, "image_size"),
        ("seed", 2**70, "seed"),
        ("threads", 10**9, "threads"),
    ],
)
def test_a_slip_is_one_sentence(configure: Any, section: str, values: Any, words: str) -> None:
    with pytest.raises(OpenWITError) as caught:
        parse_settings(configure(**{section: values}), TrainConfig, "config")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_section_is_of_settings() -> None:
    for model in sections():
        assert issubclass(model, Settings) or model.model_config.get("extra") == "allow", model

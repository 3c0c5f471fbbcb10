"""Every number of every settings class has two bounds and a description, so that a slip is refused at once."""

import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest

import openwit.pipeline
import openwit.training
from openwit.schemas.common.settings import Settings
from openwit.schemas.common.settings_reference import sections_in

CHECKED_TOGETHER: dict[tuple[str, str], Any] = {
    ("CandidateSettings", "held_out_share"): {"val": 1e300},
    ("ShardSize", "bytes"): 1 << 60,
    ("ShardSettings", "bytes"): 1 << 60,
    ("CopySettings", "bytes"): 1 << 60,
    ("LanguageSettings", "unsure"): [0.1, 1e300],
    ("DataSettings", "crop_scale"): [0.1, 1e300],
    ("DataSettings", "crop_ratio"): [0.1, 1e300],
    ("ImageSettings", "mean"): [0.5, 0.5, 1e300],
    ("ImageSettings", "std"): [0.5, 0.5, 1e300],
    ("ImageSpec", "mean"): [0.5, 0.5, 1e300],
    ("ImageSpec", "std"): [0.5, 0.5, 1e300],
}
"""Numbers whose bounds a validator of their class checks: a value that it refuses."""


def settings_classes() -> list[type[Settings]]:
    """All settings classes of both wings."""
    for package in (openwit.pipeline, openwit.training):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("settings") or ".config." in module.name or ".stages." in module.name:
                importlib.import_module(module.name)

    def below(parent: type[Any]) -> Iterator[type[Any]]:
        for child in parent.__subclasses__():
            yield child
            yield from below(child)

    found = {child for child in below(Settings) if child.__module__.startswith("openwit.")}
    return sorted(found, key=lambda child: (child.__module__, child.__qualname__))


def numbers_in(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The constraints of each number that a type is made of."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = [item for each in arguments[1:] for item in getattr(each, "metadata", [each])]
        yield from numbers_in(arguments[0], (*metadata, *inner))
    elif origin in (typing.Union, types.UnionType, list, tuple, dict):
        for argument in arguments:
            yield from numbers_in(argument, metadata if origin in (typing.Union, types.UnionType) else ())
    elif annotation in (int, float, pydantic.ByteSize):
        yield metadata


def has_bounds(metadata: tuple[Any, ...]) -> bool:
    def one_of(*names: str) -> bool:
        return any(getattr(item, name, None) is not None for item in metadata for name in names)

    return one_of("ge", "gt") and one_of("le", "lt")


CLASSES = settings_classes()
FIELDS = [(kind, name, field) for kind in CLASSES for name, field in kind.model_fields.items()]


def test_numbers_have_bounds() -> None:
    assert len(FIELDS) > 250
    without = [
        f"{kind.__module__}.{kind.__qualname__}.{name}"
        for kind, name, field in FIELDS
        for metadata in numbers_in(field.annotation, tuple(field.metadata))
        if not has_bounds(metadata) and (kind.__name__, name) not in CHECKED_TOGETHER
    ]
    assert not without


def test_settings_have_descriptions() -> None:
    # A section has the description of its class.
    without = [
        f"{kind.__module__}.{kind.__qualname__}.{name}"
        for kind, name, field in FIELDS
        if not field.description and not sections_in(field.annotation)
    ]
    assert not without
    assert not [kind.__qualname__ for kind in CLASSES if not kind.__doc__]


@pytest.mark.parametrize(("name", "setting"), CHECKED_TOGETHER)
def test_numbers_that_are_checked_together_have_bounds(name: str, setting: str) -> None:
    for kind in CLASSES:
        if kind.__name__ == name and setting in kind.model_fields:
            required = {"inputs": ["x"]} if "inputs" in kind.model_fields else {"dataset": "x"}
            required = {key: value for key, value in required.items() if key in kind.model_fields}
            with pytest.raises(pydantic.ValidationError) as raised:
                kind.model_validate({**required, setting: CHECKED_TOGETHER[name, setting]})
            assert any(setting in str(error["loc"]) + error["msg"] for error in raised.value.errors())

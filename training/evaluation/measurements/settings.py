"""Settings of a suite's measurements, by name."""

from collections.abc import Mapping
from typing import Annotated, Any

import pydantic
from pydantic import Field

from openwit.schemas.common.plugins import PluginSettings
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import MEASUREMENTS, BuiltInMeasurement, MeasurementSettings
from openwit.training.config.plugins import is_dotted

__all__ = ["AnyMeasurement", "CustomMeasurement", "DatasetSettings", "NamedMeasurement", "described", "settings_of"]


class CustomMeasurement(PluginSettings):
    """Your own measurement by dotted name; keys other than these are passed to it as keyword arguments."""

    datasets: list[str] | None = Field(None, description="names of datasets; null: all")
    label: str | None = Field(None, description="name in results; null: name")


AnyMeasurement = BuiltInMeasurement | CustomMeasurement


def _by_name(value: object) -> object:
    """Choose the settings class by `name`."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        return value
    name = value.get("name")
    if is_dotted(name):
        return CustomMeasurement.model_validate(value)
    if not isinstance(name, str) or name not in MEASUREMENTS:
        raise ValueError(f"name {name!r} must be one of {', '.join(MEASUREMENTS)}, or your function's dotted name")
    return MEASUREMENTS[name].settings.model_validate(value)


NamedMeasurement = Annotated[
    AnyMeasurement, pydantic.BeforeValidator(_by_name, json_schema_input_type=AnyMeasurement | str)
]

_WHERE = ("data", "root", "train", "val", "images", "classes", "mapping", "report")


def settings_of(each: AnyMeasurement) -> dict[str, Any]:
    """Return what decides the result of a measurement, as JSON data: no label, datasets, or places of files."""
    places = each.places if isinstance(each, MeasurementSettings) else ()
    return each.model_dump(mode="json", exclude={"datasets", "label", *places})


def described(data: DatasetSettings) -> dict[str, Any]:
    """Return how data are read as JSON data, without where they are and what they are called."""
    found = data.model_dump(mode="json", exclude={"name", "base", *_WHERE})
    base = {"base": described(data.base)} if isinstance(data.base, DatasetSettings) else {}
    has = [key for key in _WHERE if key not in ("data", "root") and getattr(data, key) is not None]
    return {**found, **base, "has": has}

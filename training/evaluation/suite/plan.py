"""Plan a suite: which model is measured on which dataset by which measurement, checked before anything is computed."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from openwit.schemas.common.errors import RecipeError
from openwit.training.evaluation.measurements.registry import Registered, find_measurement
from openwit.training.evaluation.measurements.settings import AnyMeasurement, DatasetSettings
from openwit.training.evaluation.suite.settings import SuiteModel, SuiteSettings


@dataclass(frozen=True)
class Cell:
    """One measurement of one model on one dataset.

    Attributes:
        model, data: what is measured.
        measurement: its settings.
        label: of the measurement in results.
        registered: its function.
    """

    model: SuiteModel
    data: DatasetSettings
    measurement: AnyMeasurement
    label: str
    registered: Registered

    @property
    def pair(self) -> str:
        """Return a name of files that all measurements of this model on this dataset share."""
        return digest([self.model.title, self.data.name])[:16]

    @property
    def id(self) -> str:
        """Return a name of files by what the cell is called, not by what is measured."""
        return digest([self.model.title, self.data.name, self.label])[:16]

    @property
    def title(self) -> str:
        """Return the cell in words."""
        return f"{self.label} of {self.model.title} on {self.data.name}"


def digest(value: Any) -> str:
    """Return the hex sha256 of JSON data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def plan(settings: SuiteSettings) -> list[Cell]:
    """Return all cells, by model, dataset and measurement.

    Raises:
        RecipeError: names are given twice, a dataset that is named is not there or of the wrong kind, nothing is to be
            measured, or a function of yours cannot be loaded.
    """
    if not settings.models:
        raise RecipeError("the suite has no models: give MODEL after the command, or models in the file")
    labels = [each.label or each.name for each in settings.measurements]
    _unique("models", (each.title for each in settings.models), "give one of them another name")
    _unique("datasets", (each.name for each in settings.datasets), "give one of them another name")
    _unique("measurements", labels, "give one of them a label")
    datasets = [_with_base(data, settings.datasets) for data in settings.datasets]
    rows: list[tuple[AnyMeasurement, str, Registered, set[str]]] = []
    for number, (each, label) in enumerate(zip(settings.measurements, labels, strict=True)):
        key = f"measurements.{number} ({label})"
        registered = find_measurement(each, key=key)
        rows.append((each, label, registered, _datasets_of(each, registered, settings, key)))
    return [
        Cell(model, data, each, label, registered)
        for model in settings.models
        for data in datasets
        for each, label, registered, names in rows
        if data.name in names
    ]


def _datasets_of(each: AnyMeasurement, registered: Registered, settings: SuiteSettings, key: str) -> set[str]:
    fitting = {
        data.name
        for data in settings.datasets
        if registered.kind in (None, data.kind) and all(getattr(data, need) is not None for need in registered.needs)
    }
    lacking = f"has {' and '.join(registered.needs)}" if registered.needs else f"is {registered.kind}"
    if each.datasets is None:
        if not fitting:
            remedy = "give it to one" if registered.needs else "set kind"
            raise RecipeError(f"{key}: no dataset of the suite {lacking}: {remedy}, or leave this one out")
        return fitting
    known = {data.name for data in settings.datasets}
    for name in each.datasets:
        if name not in known:
            raise RecipeError(f"{key}: there is no dataset {name!r}; there are: {', '.join(sorted(known))}")
        if name not in fitting:
            lacks = f"has no {' or no '.join(registered.needs)}" if registered.needs else f"is not {registered.kind}"
            raise RecipeError(f"{key}: the dataset {name!r} {lacks}, which {each.name} needs")
    if not each.datasets:
        raise RecipeError(f"{key}: datasets is empty: name some, or leave the key out for all")
    return set(each.datasets)


def _with_base(data: DatasetSettings, datasets: Sequence[DatasetSettings]) -> DatasetSettings:
    """Return a dataset with the settings of its base instead of its name."""
    if not isinstance(data.base, str):
        return data
    base = next((each for each in datasets if each.name == data.base and each is not data), None)
    if base is None or base.kind != "labelled" or base.base is not None:
        others = [each.name for each in datasets if each is not data and each.kind == "labelled" and not each.base]
        raise RecipeError(
            f"datasets: the base {data.base!r} of {data.name!r} must be another labelled dataset without a base: "
            f"{', '.join(others) or 'there is none'}"
        )
    return data.model_copy(update={"base": base})


def _unique(what: str, names: Iterable[str], remedy: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RecipeError(f"{what}: {twice[0]!r} is there twice: {remedy}")

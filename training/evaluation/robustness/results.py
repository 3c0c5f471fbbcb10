"""Read earlier results of robustness, whose models the line is fitted to, and files that map classes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.robustness.line import Accuracy
from openwit.training.evaluation.robustness.measure import ShiftedSets

RESULTS = "results.json"
"""A suite's results in its folder."""


def read_mapping(path: Path) -> dict[str, list[str]]:
    """Return the base classes of shifted classes: JSON, `{"name": "base name", "other": ["one", "two"]}`.

    Raises:
        DataError: it is not such a file.
    """
    found = _read(path)
    if not isinstance(found, dict):
        raise DataError(f"{path} is no JSON object of shifted classes and their base classes")
    mapping = {name: [value] if isinstance(value, str) else value for name, value in found.items()}
    for name, value in mapping.items():
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise DataError(f"{path}: the base classes of {name!r} must be a name or a list of names")
    return mapping


def read_models(path: Path, sets: ShiftedSets) -> list[Accuracy]:
    """Return the models of an earlier result as baselines.

    Args:
        path: JSON of `wit-train robustness --out`, or the `results.json` or the folder of a suite that measured it.
        sets: that it must be of.

    Raises:
        DataError: it is no such result, or of other sets.
    """
    found = _read(path / RESULTS if path.is_dir() else path)
    try:
        each = _of_suite(found["cells"], path, sets) if "cells" in found else _of_command(found, path, sets)
        if not all(0 <= one.base <= 1 and 0 <= one.shifted <= 1 and one.base_images > 0 for one in each):
            raise DataError(f"{path} has accuracies outside of 0 to 1")
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is no result of wit-train robustness, nor of a suite") from error
    return [replace(one, is_baseline=one.before is None) for one in each]


def _of_command(found: Any, path: Path, sets: ShiftedSets) -> list[Accuracy]:
    names = found["base"]["name"], found["shifted"]["name"]
    if names != (sets.base.title, sets.shifted.title):
        raise DataError(f"{path} is of {names[0]} and {names[1]}, other sets")
    return [Accuracy(**one["accuracy"]) for one in found["models"]]


def _of_suite(cells: Any, path: Path, sets: ShiftedSets) -> list[Accuracy]:
    """Return the models of a suite's cells of these sets by their names in the suite, without cells' baselines."""
    found: dict[str, Accuracy] = {}
    for cell in cells:
        details = cell.get("details") or {}
        if (details.get("base"), details.get("shifted")) != (sets.base.title, sets.shifted.title):
            continue
        for one in details["models"]:
            accuracy = Accuracy(**one["accuracy"])
            if not accuracy.is_baseline:
                before = cell["model"] if accuracy.before is not None else None
                name = cell["model"] if before is None else f"{cell['model']}, probed"
                found.setdefault(name, replace(accuracy, model=name, before=before))
    if not found:
        raise DataError(f"{path} has no result of robustness on {sets.base.title} and {sets.shifted.title}")
    return list(found.values())


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error

"""`wit-train robustness`: a table, a JSON that later runs take models from, and a plot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import DataError
from openwit.training.cli.probe import percent
from openwit.training.evaluation.chart import Axis, Series, chart_svg
from openwit.training.evaluation.robustness.line import Accuracy, Robustness, inside, robustness
from openwit.training.evaluation.robustness.measure import SetRead, ShiftedSets
from openwit.training.evaluation.statistics.fits import LogitLine, logit
from openwit.training.evaluation.statistics.intervals import wilson

_TICKS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


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

    Raises:
        DataError: it is no such result, or of other sets.
    """
    found = _read(path)
    try:
        if (found["base"]["name"], found["shifted"]["name"]) != (sets.base.title, sets.shifted.title):
            raise DataError(f"{path} is of {found['base']['name']} and {found['shifted']['name']}, other sets")
        each = [Accuracy(**one["accuracy"]) for one in found["models"]]
        if not all(0 <= one.base <= 1 and 0 <= one.shifted <= 1 and one.base_images > 0 for one in each):
            raise DataError(f"{path} has accuracies outside of 0 to 1")
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is no result of wit-train robustness") from error
    return [replace(one, is_baseline=one.before is None) for one in each]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error


def report_robustness(
    accuracies: Sequence[Accuracy],
    sets: ShiftedSets,
    *,
    read: Mapping[str, SetRead],
    about: Mapping[str, Any],
    console: Console,
    out: Path | None,
    plot: Path | None,
) -> list[Robustness]:
    """Print the table and write the files."""
    line, found = robustness(accuracies)
    console.print(_table(found, sets))
    lines = [
        "a line needs two baselines (--baseline): there is no effective robustness"
        if line is None
        else f"line of {line.points} baselines: slope {line.slope:.2f}, R² {line.r_squared:.3f}, on a logit scale"
    ]
    if sets.subset.unmatched:
        names = ", ".join(sets.subset.unmatched[:5])
        lines.append(
            f"{len(sets.subset.unmatched)} classes of {sets.shifted.title} have none in the base set: {names}"
        )
    lines += [
        f"{len(each.unreadable)} images of the {which} set cannot be read: {', '.join(each.unreadable[:5])}"
        for which, each in read.items()
        if each.unreadable
    ]
    for text in lines:
        console.print(text, markup=False, soft_wrap=True)
    if out is not None:
        record = {
            "measurement": "robustness",
            **{
                which: {"name": data.title, "left_out": data.left_out, **asdict(read[which])}
                for which, data in (("base", sets.base), ("shifted", sets.shifted), ("train", sets.train))
                if data is not None
            },
            "shared_classes": [sets.base.classes[number] for number in sets.subset.base_classes],
            "unmatched": sets.subset.unmatched,
            "line": None if line is None else asdict(line),
            "models": [asdict(each) for each in found],
            **about,
        }
        atomic_write(out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        console.print(f"wrote {out}", markup=False, soft_wrap=True)
    if plot is not None:
        atomic_write(plot, scatter_svg(found, line, sets))
        console.print(f"wrote {plot}", markup=False, soft_wrap=True)
    return found


def _table(found: Sequence[Robustness], sets: ShiftedSets) -> Table:
    table = Table(title=f"{sets.shifted.title} against {sets.base.title}", title_justify="left")
    table.add_column("model")
    for heading in ("base", "shifted", "effective", "relative"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        gains = ("" if gain is None else f"{100 * gain:+.1f}" for gain in (each.effective, each.relative))
        name = each.accuracy.model + (" (baseline)" if each.accuracy.is_baseline else "")
        table.add_row(name, percent(each.accuracy.base), percent(each.accuracy.shifted), *gains)
    return table


def scatter_svg(found: Sequence[Robustness], line: LogitLine | None, sets: ShiftedSets) -> str:
    """Return the plot: models by both accuracies on logit scales, the baselines' line, and where both are equal."""
    accuracies = [each.accuracy for each in found]
    shares = [
        value
        for each in accuracies
        for value in (inside(each.base, each.base_images), inside(each.shifted, each.shifted_images))
    ]
    low, high = max(0.001, min(shares) * 0.8), 1 - (1 - max(shares)) * 0.8
    ticks = [(tick, f"{100 * tick:g}%") for tick in _TICKS if low <= tick <= high]
    across = Axis(f"accuracy on {sets.base.title}", ticks, low, high, logit)
    up = Axis(f"accuracy on {sets.shifted.title}", ticks, low, high, logit)
    baselines = [_point(each) for each in accuracies if each.is_baseline]
    series = [Series("baselines", baselines, joined=False)] if baselines else []
    series += [Series(each.model, [_point(each)], joined=False) for each in accuracies if not each.is_baseline]
    series.append(Series("equal", [(low, low), (high, high)], marked=False, dashed=True))
    if line is not None:
        places = [low + (high - low) * step / 40 for step in range(41)]
        series.append(Series("line", [(x, line.at(x)) for x in places], marked=False))
    return chart_svg("Accuracy under shift, with 95% intervals", across, up, series)


def _point(each: Accuracy) -> tuple[float, float, float, float]:
    interval = wilson(round(each.shifted * each.shifted_images), each.shifted_images)
    return (
        inside(each.base, each.base_images),
        inside(each.shifted, each.shifted_images),
        inside(interval.low, each.shifted_images),
        inside(interval.high, each.shifted_images),
    )

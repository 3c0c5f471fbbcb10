"""`wit-train robustness`: a table, a JSON that later runs take models from, and a plot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import load_model
from openwit.training.cli.probe import percent
from openwit.training.config.choices import Weights
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import RobustnessMeasurement
from openwit.training.engine.runtime import cpu_prepared
from openwit.training.evaluation.chart import Axis, Series, chart_svg
from openwit.training.evaluation.measurements.registry import code_of
from openwit.training.evaluation.measurements.robustness import Opened
from openwit.training.evaluation.robustness.line import Accuracy, Robustness, inside, robustness
from openwit.training.evaluation.robustness.measure import SetRead, ShiftedSets, measure_shift
from openwit.training.evaluation.statistics.fits import LogitLine, logit
from openwit.training.evaluation.statistics.intervals import wilson

_TICKS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class RobustnessOptions:
    """Options of the command; see its help. `data` is the shifted set with its base."""

    data: DatasetSettings
    probed: bool = False
    baselines: Sequence[str] = ()
    prompts: str = "paper"
    limit: int | None = None
    features: Path | None = None
    batch_size: int = 256
    weights: Weights = Weights.MODEL
    quick_gelu: bool | None = None
    out: Path | None = None
    plot: Path | None = None


def robustness_command(models: Sequence[Path], options: RobustnessOptions, *, console: Console) -> list[Robustness]:
    """Open both sets, measure every model, print the table and write the files.

    Raises:
        RecipeError: a baseline is neither a model nor results.
        DataError: data, results or models are not usable.
    """

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    own, files = baselines_of(options.baselines, models)
    how = RobustnessMeasurement(prompts=[options.prompts], probed=options.probed, baselines=files, limit=options.limit)
    opened: Opened = code_of("robustness").open_data(options.data, how, say)
    found, about, read = list(opened.baselines), [], {}
    for path in models:
        loaded = load_model(path, weights=options.weights, quick_gelu=options.quick_gelu, report=say)
        about.append({"model": str(path), **loaded.about})
        with cpu_prepared(loaded.threads):
            shift = measure_shift(
                loaded,
                opened.sets,
                name=str(path),
                templates=opened.templates,
                batch_size=options.batch_size,
                folder=options.features,
                is_baseline=path in own,
            )
        for note in shift.notes:
            say(f"{path}: {note}")
        found += shift.accuracies
        read.update(shift.read)
    described = {"weights": about, "templates": opened.templates, "limit": options.limit}
    return report_robustness(
        found, opened.sets, read=read, about=described, console=console, out=options.out, plot=options.plot
    )


def baselines_of(given: Sequence[str], models: Sequence[Path]) -> tuple[set[Path], list[Path]]:
    """Return which of the models are baselines, and the files of results of others.

    Args:
        given: each a model as it was given, the last part of its path, or a path of results.
        models: those that are measured.

    Raises:
        RecipeError: one is neither, or several models.
    """
    own: set[Path] = set()
    files: list[Path] = []
    for text in given:
        named = [path for path in models if text == str(path)] or [path for path in models if text == path.name]
        if len(named) > 1:
            raise RecipeError(f"--baseline {text} is the name of {len(named)} models: give the path of one")
        if named:
            own.add(named[0])
        elif Path(text).exists():
            files.append(Path(text))
        else:
            raise RecipeError(f"--baseline {text} is neither a MODEL of this command nor a file or folder of results")
    return own, files


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

"""What the experiment gave, as Markdown and figures: docs/figure2.md takes its figures from here, none by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.chart import Axis, Series, chart_svg
from openwit.workflows.figure2.curves import Curve, SpeedUp, curves_of, speed_ups
from openwit.workflows.figure2.experiment import read_points, read_record
from openwit.workflows.figure2.points import METRICS
from openwit.workflows.marks import fill_marks, update_page


@dataclass(frozen=True)
class Result:
    """A finished experiment: its record, and the curves of each metric."""

    record: Mapping[str, Any]
    curves: Mapping[str, list[Curve]]

    def chance(self, metric: str) -> float:
        """Return the chance level of a metric."""
        return float(self.record["chance"][metric])

    def compared(self, metric: str) -> list[SpeedUp]:
        """Return each pair of objectives by a metric."""
        return speed_ups(self.curves[metric], self.chance(metric), self.images(metric))

    def images(self, metric: str) -> int:
        """Return the number of images that a metric was measured on."""
        experiment, sizes = self.record["settings"]["experiment"], self.record["sizes"]
        if metric == "zero_shot":
            return int(sizes["labelled"])
        if metric.startswith("choice"):
            return int(experiment["choice"])
        return min(int(sizes["held_out"]), experiment["retrieval_limit"] or int(sizes["held_out"]))


def load_result(out: Path) -> Result:
    """Read the folder of a finished experiment.

    Raises:
        DataError: it holds none, or one that is not finished.
    """
    record = read_record(out)
    points = read_points(out, record)
    try:
        curves = {metric: curves_of(points, metric) for metric in METRICS}
    except ValueError as error:
        raise DataError(f"{out}: {error}: run the experiment again") from error
    return Result(record, {metric: found for metric, found in curves.items() if found})


def conditions(result: Result) -> str:
    """Return when, on what, and how long."""
    record = result.record
    seconds = record["seconds"].values()
    train, score = (sum(each[part] for each in seconds) for part in ("train", "score"))
    cores, load = record["cores"], record["load"]
    shared = f", shared with other work (load {load:g})" if load > cores + 1 else ""
    experiment, sizes, data = record["settings"]["experiment"], record["sizes"], record["data"]
    config = next(iter(record["settings"]["configurations"].values()))
    model = config["model"].get("name") or "a model of own sizes"
    return (
        f"{record['date']}, {cores} cores{shared}, Python {record['python']}, torch {record['torch']}: "
        f"{(train + score) / 60:.1f} minutes ({train / 60:.1f} training, {score / 60:.1f} scoring). {model}, batch "
        f"{config['data']['batch_size']}, {experiment['vocabulary'] or 'all'} token ids, {len(experiment['seeds'])} "
        f"seeds; scored on {sizes['labelled']:,} images of {data['labelled'] or 'no labelled set'} "
        f"and {sizes['held_out']:,} of {data['held_out']}."
    )


def accuracy_table(result: Result) -> str:
    """Return the final value of each metric and objective, with its interval over seeds and chance."""
    lines = [
        "| metric | objective | samples seen | final | 95 % over seeds | chance |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for metric, curves in result.curves.items():
        for curve in curves:
            spread = curve.interval(-1)
            shown = "–" if spread is None else f"{100 * spread.low:.1f} to {100 * spread.high:.1f}"
            lines.append(
                f"| {METRICS[metric]} | {_words(curve.objective)} | {curve.samples[-1]:,} | {curve.means[-1]:.1%} "
                f"| {shown} | {result.chance(metric):.2%} |"
            )
    return "\n".join(lines)


def speed_table(result: Result) -> str:
    """Return for each pair of objectives the factor at equal accuracy, the difference and the least one that shows."""
    lines = [
        "| metric | slower | faster | faster by | each seed | difference at the end, points | least that shows | |",
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    for metric in result.curves:
        lines += [_speed_row(metric, each) for each in result.compared(metric)]
    return "\n".join(lines)


def _speed_row(metric: str, each: SpeedUp) -> str:
    factor = "–" if each.factor is None else f"{each.factor:.1f} x"
    seeds = f"{min(each.by_seed):.1f} to {max(each.by_seed):.1f}" if each.by_seed else "–"
    found = each.difference
    spread = least = "–"
    verdict = "one seed: no spread"
    if found is not None:
        spread = f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
        least = f"{100 * found.least:.1f}"
        verdict = "separated" if each.separated else "not separated"
    if not each.above_chance:
        verdict += "; slower not above chance"
    names = f"{_words(each.slow)} | {_words(each.fast)}"
    return f"| {METRICS[metric]} | {names} | {factor} | {seeds} | {spread} | {least} | {verdict} |"


def separated(result: Result) -> str:
    """Return in a sentence how many comparisons this run can separate."""
    found = [each for metric in result.curves for each in result.compared(metric)]
    shown = [each for each in found if each.separated]
    least = [each.difference.least for each in found if each.difference is not None and each.difference.least > 0]
    if not least:
        return "The seeds show no spread (or there is one only), so nothing can be separated."
    bounds = f"{100 * min(least):.1f} to {100 * max(least):.1f}"
    return (
        f"{len(shown)} of {len(found)} comparisons are separated (95 %, Student's t over seeds, not corrected for "
        f"their number). A comparison finds a true difference of {bounds} points (by metric) in 80 % of all "
        "repetitions; smaller ones would mostly be missed."
    )


def figure(result: Result, metric: str) -> str:
    """Return the curves of a metric as SVG: means over seeds with their intervals, and chance."""
    curves, chance = result.curves[metric], result.chance(metric)
    last = max(curve.samples[-1] for curve in curves)
    highest = max(max(max(row) for row in curve.values) for curve in curves)
    top = next((value for value in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75) if value >= highest * 1.05), 1.0)
    series = [Series(_words(curve.objective), _points(curve)) for curve in curves]
    series.append(Series("chance", [(0, chance), (last, chance)], marked=False, dashed=True))
    across = Axis(
        "samples seen", [(last * part / 4, f"{last * part / 4000:.0f}k") for part in range(5)], 0, float(last)
    )
    up = Axis(METRICS[metric], [(top * part / 5, f"{100 * top * part / 5:g}%") for part in range(6)], 0, top)
    return chart_svg(METRICS[metric].capitalize(), across, up, series)


def _points(curve: Curve) -> list[tuple[float, ...]]:
    points: list[tuple[float, ...]] = []
    for number, (at, value) in enumerate(zip(curve.samples, curve.means, strict=True)):
        spread = curve.interval(number)
        points.append((at, value) if spread is None else (at, value, spread.low, spread.high))
    return points


def figures(result: Result, images: str) -> str:
    """Return the pictures of all metrics, as Markdown."""
    return "\n".join(
        f"![{METRICS[metric].capitalize()} over samples seen, by objective]({images}/{figure_name(metric)})"
        for metric in result.curves
    )


def figure_name(metric: str) -> str:
    """Return the file name of a figure."""
    return f"figure2-{metric.replace('_', '-')}.svg"


def render(text: str, result: Result, images: str = "images") -> str:
    """Fill the marked blocks of a page.

    Raises:
        DataError: a mark names no block.
    """
    blocks = {
        "conditions": partial(conditions, result),
        "accuracy": partial(accuracy_table, result),
        "speed": partial(speed_table, result),
        "separated": partial(separated, result),
        "figures": partial(figures, result, images),
    }
    return fill_marks(text, "figure2", blocks)


def update(page: Path, result: Result, images: str = "images") -> bool:
    """Render a page in place and write its figures; return whether the page changed.

    Raises:
        DataError: the page cannot be read, or a mark names no block.
    """
    changed = update_page(page, partial(render, result=result, images=images))
    for metric in result.curves:
        atomic_write(page.parent / images / figure_name(metric), figure(result, metric))
    return changed


def _words(objective: str) -> str:
    return objective.replace("_", " ")

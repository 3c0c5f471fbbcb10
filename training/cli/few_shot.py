"""`wit-train few-shot`: a table, a JSON and a plot."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import DataError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.cli.probe import WAIT_MINUTES, ProbeSettings, encoders_of, percent, reporting
from openwit.training.engine.distributed import process_group
from openwit.training.engine.runtime import cpu_prepared, pick_device
from openwit.training.evaluation.chart import Axis, Series, chart_svg
from openwit.training.evaluation.few_shot import FewShot, few_shot
from openwit.training.evaluation.probe.measure import Encoded, encode_sets
from openwit.training.evaluation.probe.sets import ProbeSets, labels_at
from openwit.training.evaluation.shares import Shares
from openwit.training.evaluation.statistics import Metric
from openwit.training.evaluation.zero_shot_report import evaluate_zero_shot
from openwit.training.evaluation.zero_shot_result import ZeroShotResult


def run_few_shot(
    model: LoadedModel,
    sets: ProbeSets,
    settings: ProbeSettings,
    *,
    shots: tuple[int, ...],
    seeds: int,
    templates: tuple[str, ...],
    console: Console,
    out: Path | None,
    plot: Path | None,
) -> dict[str, Any]:
    """Measure, print the table and write the files; other processes than the first only encode their shares.

    Raises:
        DataError: the images have several labels each, or see `few_shot`.
    """
    if sets.train.truth is not None or sets.test.truth is not None:
        raise DataError("images with several labels cannot be drawn by class: use wit-train probe for them")
    curves: dict[str, FewShot] = {}
    encoded: dict[str, Encoded] = {}
    zero: float | None = None
    with process_group("auto", WAIT_MINUTES) as group, cpu_prepared(model.threads):
        main = group is None or group.main
        with reporting(console, shown=main) as report:
            for encoder in encoders_of(model, settings):
                found = encode_sets(
                    encoder,
                    sets,
                    batch_size=settings.batch_size,
                    folder=settings.features,
                    shares=Shares(group),
                    report=report,
                )
                if not main:
                    continue
                encoded[encoder.name] = found
                curves[encoder.name] = few_shot(
                    (found.train.rows, sets.train.labels[found.train.indices]),
                    (found.test.rows, labels_at(sets.test, found.test.indices)),
                    len(sets.classes),
                    shots=shots,
                    seeds=seeds,
                    metric=settings.metric,
                    device=pick_device("auto"),
                    progress=lambda done, total, name=encoder.name: report(f"probes of {name}", done, total),  # type: ignore[misc]
                )
            if main and model.embeds:
                zero = _zero_shot(model, sets, settings, templates)
    if not main:
        return {}
    record = _record(curves, encoded, sets, settings, seeds, templates, zero) | model.about
    for note in dict.fromkeys(note for each in encoded.values() for note in each.notes):
        console.print(note, markup=False, soft_wrap=True)
    _show(curves, sets, settings.metric, zero, console)
    if out is not None:
        atomic_write(out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        console.print(f"wrote {out}", markup=False, soft_wrap=True)
    if plot is not None:
        title = f"Few-shot probes on {sets.test.title}"
        atomic_write(plot, curve_svg(title, curves, settings.metric, zero, record["chance"]))
        console.print(f"wrote {plot}", markup=False, soft_wrap=True)
    return record


def _zero_shot(
    model: LoadedModel, sets: ProbeSets, settings: ProbeSettings, templates: tuple[str, ...]
) -> float | None:
    """Return the metric of zero-shot classification; None for one that it does not give."""
    if settings.metric not in (Metric.ACCURACY, Metric.MEAN_PER_CLASS):
        return None
    found = evaluate_zero_shot(model, sets.test, templates=templates, batch_size=settings.batch_size)
    assert isinstance(found, ZeroShotResult), "sets of several labels were refused"
    return found.top1.value if settings.metric is Metric.ACCURACY else found.mean_per_class.value


def _record(
    curves: dict[str, FewShot],
    encoded: dict[str, Encoded],
    sets: ProbeSets,
    settings: ProbeSettings,
    seeds: int,
    templates: tuple[str, ...],
    zero: float | None,
) -> dict[str, Any]:
    first = next(iter(encoded.values()))
    return {
        "measurement": "few_shot",
        "metric": str(settings.metric),
        "chance": 1 / len(sets.classes) if not settings.metric.of_scores else None,
        "interval": "95% of the mean over seeds by Student's t",
        "seeds": seeds,
        "penalty_chosen_on": "other training images, as many of each class, at most 4",
        "zero_shot": zero,
        "templates": templates,
        "classes": list(sets.classes),
        "limits": settings.limits,
        "images": {"train": len(first.train), "test": len(first.test)},
        "shared_images": list(first.notes),
        "sha256": {"train": first.train.sha256, "test": first.test.sha256},
        "unreadable": {"train": first.train.unreadable, "test": first.test.unreadable},
        "left_out": {"train": sets.train.left_out, "test": sets.test.left_out},
        "curves": {name: [asdict(each) for each in curve.shots] for name, curve in curves.items()},
    }


def curve_svg(title: str, curves: dict[str, FewShot], metric: Metric, zero: float | None, chance: float | None) -> str:
    """Return the plot: curves of the encoders with intervals, and levels of zero-shot classification and chance."""
    counts = [each.shots for each in next(iter(curves.values())).shots]
    low, high = counts[0] / 1.3, counts[-1] * 1.3
    series = [
        Series(
            name,
            [
                (each.shots, each.mean, *(bound for bound in (each.low, each.high) if bound is not None))
                for each in curve.shots
            ],
        )
        for name, curve in curves.items()
    ]
    for name, value in (("zero-shot", zero), ("chance", chance)):
        if value is not None:
            series.append(Series(name, [(low, value), (high, value)], marked=False, dashed=True))
    across = Axis("images per class", [(count, str(count)) for count in counts], low, high, math.log)
    highest = max(value for each in series for point in each.points for value in point[1:])
    top = min(10, math.ceil(10 * highest + 1e-9))
    up = Axis(
        str(metric).replace("_", " "), [(tenth / 10, f"{10 * tenth}%") for tenth in range(top + 1)], 0.0, top / 10
    )
    return chart_svg(title, across, up, series)


def _show(curves: dict[str, FewShot], sets: ProbeSets, metric: Metric, zero: float | None, console: Console) -> None:
    table = Table(title=f"few-shot probes on {sets.test.title}, {metric}", title_justify="left")
    table.add_column("images per class", justify="right")
    for name in curves:
        table.add_column(name, justify="right")
    for row in zip(*(curve.shots for curve in curves.values()), strict=True):
        cells = [
            percent(each.mean)
            + ("" if each.low is None or each.high is None else f" ({100 * each.low:.1f} - {100 * each.high:.1f})")
            for each in row
        ]
        table.add_row(str(row[0].shots), *cells)
    console.print(table)
    if zero is not None:
        console.print(f"zero-shot: {percent(zero)}", markup=False, soft_wrap=True)
    for each in next(iter(curves.values())).shots:
        if each.short:
            names = ", ".join(f"{sets.classes[label]} ({count})" for label, count in list(each.short.items())[:5])
            more = f" and {len(each.short) - 5} more" if len(each.short) > 5 else ""
            console.print(f"fewer than {each.shots} images: {names}{more}", markup=False, soft_wrap=True)


def shots_of(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as `1,2,4`, ascending.

    Raises:
        DataError: they are not whole numbers from 1 on, or one is there twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and 1 <= int(part) <= 10_000 for part in parts):
        raise DataError(f"--shots {text!r} must be whole numbers from 1 to 10000, such as 1,2,4,8,16")
    found = sorted({int(part) for part in parts})
    if len(found) < len(parts):
        raise DataError(f"--shots {text!r} names a number twice")
    return tuple(found)

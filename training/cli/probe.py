"""`wit-train probe`: a table, a JSON, and a file of the head."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from openwit.schemas.common.atomic import atomic_path, atomic_write
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.engine.distributed import process_group
from openwit.training.engine.runtime import cpu_prepared, pick_device
from openwit.training.evaluation.features import Encoder, Layer, ModelEncoder, RawPixels, random_encoder
from openwit.training.evaluation.probe.measure import (
    ProbeResult,
    Report,
    encode_sets,
    probe_features,
    probe_record,
)
from openwit.training.evaluation.probe.sets import ProbeSets
from openwit.training.evaluation.shares import Shares
from openwit.training.evaluation.statistics import Metric

WAIT_MINUTES = 60.0
"""How long a process waits for the slowest at the end of its share of the features."""


@dataclass(frozen=True)
class ProbeSettings:
    """Options of the command.

    Attributes:
        layer: whose features are probed.
        metric: on validation and test images.
        seed: of the images held out, and of random weights.
        batch_size: images encoded at once.
        baselines: also probe raw pixels and the same tower with random weights.
        features: folder that keeps features; None: nothing is kept.
        limits: images drawn of the training and of the test set; recorded.
    """

    layer: Layer = Layer.PENULTIMATE
    metric: Metric = Metric.ACCURACY
    seed: int = 0
    batch_size: int = 256
    baselines: bool = False
    features: Path | None = None
    limits: tuple[int | None, int | None] = (None, None)


def run_probe(
    model: LoadedModel,
    sets: ProbeSets,
    settings: ProbeSettings,
    *,
    console: Console,
    out: Path | None,
    head: Path | None,
) -> list[ProbeResult]:
    """Probe, print the table and write the files; other processes than the first only encode their shares."""
    encoders = encoders_of(model, settings)
    results: list[ProbeResult] = []
    notes: dict[str, None] = {}
    with process_group("auto", WAIT_MINUTES) as group, cpu_prepared(model.threads):
        main = group is None or group.main
        for note in (*model.notes, *sets.train.notes, *sets.test.notes) if main else ():
            console.print(note, markup=False, soft_wrap=True)
        with reporting(console, shown=main) as report:
            for encoder in encoders:
                encoded = encode_sets(
                    encoder,
                    sets,
                    batch_size=settings.batch_size,
                    folder=settings.features,
                    shares=Shares(group),
                    report=report,
                )
                if main:
                    notes.update(dict.fromkeys(encoded.notes))
                    device = pick_device("auto")
                    found = probe_features(
                        encoded, sets, metric=settings.metric, seed=settings.seed, device=device, report=report
                    )
                    results.append(found)
    if main:
        for note in notes:
            console.print(note, markup=False, soft_wrap=True)
        _show(results, sets, settings.metric, console)
        if out is not None:
            record = probe_record(results, sets, settings.metric, settings.seed)
            record = {**record, **model.about, "limits": settings.limits}
            atomic_write(out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            console.print(f"wrote {out}", markup=False, soft_wrap=True)
        if head is not None:
            save_head(head, results[0], sets.classes)
            console.print(f"wrote {head}", markup=False, soft_wrap=True)
    return results


def encoders_of(model: LoadedModel, settings: ProbeSettings) -> list[Encoder]:
    """Return the model's encoder, and the baselines if they are asked for."""
    found: list[Encoder] = [ModelEncoder(model, settings.layer)]
    if settings.baselines:
        found += [random_encoder(model, settings.seed, settings.layer), RawPixels()]
    return found


def save_head(path: Path, result: ProbeResult, classes: Sequence[str]) -> None:
    """Write weights, bias and class names as a file of NumPy (.npz)."""
    fitted = result.probe.head
    about = json.dumps({"classes": list(classes), "encoder": result.encoded.train.key, "penalty": fitted.penalty})
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, weights=fitted.weights, bias=fitted.bias, about=np.array(about))


@contextmanager
def reporting(console: Console, *, shown: bool) -> Iterator[Report]:
    """Yield a function that draws what is done."""
    with Progress(console=console, transient=True, disable=not (shown and console.is_terminal)) as progress:
        task = progress.add_task("", total=None)

        def report(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=max(done, total))

        yield report


def percent(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.1f}%"


def _show(results: Sequence[ProbeResult], sets: ProbeSets, metric: Metric, console: Console) -> None:
    first = results[0]
    table = Table(title=f"linear probe on {sets.test.title}, {len(first.encoded.test)} images", title_justify="left")
    table.add_column("features of")
    for heading in ("number", str(metric), "95% interval", "penalty", "iterations"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in results:
        table.add_row(
            each.encoder,
            str(each.features),
            percent(each.test.value),
            f"{100 * each.test.low:.1f} - {100 * each.test.high:.1f}%",
            f"{each.probe.head.penalty:.2g}",
            str(each.probe.head.iterations),
        )
    console.print(table)
    chance = "" if first.test.chance is None else f"; chance {percent(first.test.chance)}"
    lines = [
        f"{len(sets.classes)} classes; fitted to {first.probe.train + first.probe.valid} images, the penalty chosen "
        f"on {first.probe.valid} of them{chance}"
    ]
    bad = {"training": first.encoded.train, "test": first.encoded.test}
    unreadable = [f"{len(each.unreadable)} {name}" for name, each in bad.items() if each.unreadable]
    if unreadable:
        lines.append(f"left out: unreadable {' and '.join(unreadable)} images")
    lines += [
        f"the probe of {each.encoder} ended after {each.probe.head.iterations} iterations with a gradient of "
        f"{each.probe.head.gradient:.1g}"
        for each in results
        if not each.probe.head.converged
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)

"""`wit-train zero-shot`: a table and a JSON."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.printable import printable
from openwit.training.checkpoints.load import LoadedModel, load_model
from openwit.training.cli.labelled import dataset_settings
from openwit.training.config.choices import Metric, Weights
from openwit.training.config.measurements import ZeroShotMeasurement
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.measurements.registry import code_of
from openwit.training.evaluation.measurements.zero_shot import Opened
from openwit.training.evaluation.prompt_sets import Prompts, with_single
from openwit.training.evaluation.statistics.estimates import Estimate
from openwit.training.evaluation.training_images import check_not_trained_on
from openwit.training.evaluation.zero_shot_report import (
    Prompted,
    ambiguous,
    evaluate_prompts,
    zero_shot_record,
)
from openwit.training.evaluation.zero_shot_result import Result, Share, ZeroShotResult

SHOWN_CONFUSIONS = 5
METRIC_NAMES = {
    Metric.ACCURACY: "top-1",
    Metric.MEAN_PER_CLASS: "mean per class",
    Metric.MEAN_TOP1_TOP5: "mean of top-1 and top-5",
    Metric.ROC_AUC: "ROC AUC",
    Metric.MAP_11: "mAP, 11 points",
    Metric.MAP: "mAP",
}


@dataclass(frozen=True)
class ZeroShotOptions:
    """Options of the command; see its help."""

    data: Path | None = None
    dataset: str | None = None
    root: Path = Path(".")
    prompts: tuple[str, ...] = ()
    metric: Metric | None = None
    split: str | None = None
    classes: Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    limit: int | None = None
    batch_size: int = 256
    allow_train: bool = False
    weights: Weights = Weights.MODEL
    quick_gelu: bool | None = None
    out: Path | None = None


def zero_shot_command(model: Path, options: ZeroShotOptions, *, console: Console) -> Result:
    """Check the options, the data and the prompts, then load the model and evaluate.

    Raises:
        RecipeError: options do not go together.
        DataError: data, prompts or model are not usable.
    """
    opened = _opened(options)
    data, prompts, metric = opened.data, opened.prompts, opened.metric
    loaded = load_model(
        model,
        weights=options.weights,
        quick_gelu=options.quick_gelu,
        report=lambda line: console.print(line, markup=False, soft_wrap=True),
    )
    if not options.allow_train and (compared := check_not_trained_on(loaded, data, data.title)):
        data = data.noting(compared)
    return run_zero_shot(
        loaded,
        data,
        console=console,
        prompts=with_single(prompts) if loaded.embeds else prompts,
        metric=metric,
        limit=options.limit,
        batch_size=options.batch_size,
        out=options.out,
    )


def _opened(options: ZeroShotOptions) -> Opened:
    """Return the images, the sets of templates and the metric: those of the data, or those of a known dataset."""
    settings = dataset_settings(
        options.data,
        options.dataset,
        options.root,
        split=options.split,
        classes=options.classes,
        image_column=options.image_column,
        label_column=options.label_column,
    )
    how = ZeroShotMeasurement(prompts=list(options.prompts), metric=options.metric, limit=options.limit)
    opened: Opened = code_of("zero_shot").open_data(settings, how, lambda _: None)
    if options.dataset is None:
        return opened
    return replace(opened, data=opened.data.noting(f"{options.dataset}: metric {opened.metric}"))


def run_zero_shot(
    model: LoadedModel,
    data: ClassificationSet,
    *,
    console: Console,
    prompts: list[Prompts],
    metric: Metric | None = None,
    limit: int | None,
    batch_size: int,
    out: Path | None,
) -> Result:
    """Evaluate, print the tables, write the file."""

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    for note in (*model.notes, *data.notes, *ambiguous(data)):
        say(note)
    begun, used = time.perf_counter(), time.process_time()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("classifying", total=len(data))
        found = evaluate_prompts(
            model,
            data,
            prompts,
            metric=metric,
            batch_size=batch_size,
            progress=lambda done, _: progress.update(task, completed=done),
        )
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    main = found[0]
    console.print(result_table(main.result, f"zero-shot on {data.title}, {main.result.images} images"))
    if len(found) > 1:
        console.print(prompts_table(found))
    for line in summary(main, data, model=model):
        say(line)
    say(f"{main.result.images / seconds:,.0f} images/s ({used:.1f} s of CPU)")
    if out is not None:
        record = zero_shot_record(model, data, found=found, limit=limit)
        atomic_write(out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        say(f"wrote {out}")
    return main.result


def result_table(result: Result, title: str) -> Table:
    """Return the result as a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for heading in ("value", "95% interval", "chance", "x chance"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows: dict[str, Share | Estimate | None]
    if isinstance(result, ZeroShotResult):
        rows = {"top-1": result.top1, "top-5": result.top5, "mean per class": result.mean_per_class}
    else:
        rows = {"mAP, 11 points": result.map_11_point, "mAP": result.map}
    rows.setdefault(METRIC_NAMES[result.metric], result.headline)
    for name, share in rows.items():
        if share is not None:
            marked = (
                f"{name} *" if name == METRIC_NAMES[result.metric] and result.metric is not Metric.ACCURACY else name
            )
            table.add_row(
                marked,
                f"{100 * share.value:.1f}%",
                f"{100 * share.low:.1f} - {100 * share.high:.1f}%",
                "" if share.chance is None else f"{100 * share.chance:.2f}%",
                "" if share.chance is None else f"{share.value / share.chance:.1f}",
            )
    return table


def prompts_table(found: list[Prompted]) -> Table:
    """Return sets of templates side by side, with the gain of the first over each other in top-1."""
    main = found[0].result
    table = Table(title=f"prompts by {METRIC_NAMES[main.metric]}", title_justify="left")
    table.add_column("prompts")
    for heading in ("templates", "value", "95% interval", "gain of the first in top-1"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        headline, gained = each.result.headline, each.gain
        table.add_row(
            each.prompts.name,
            str(len(each.prompts.templates)),
            f"{100 * headline.value:.1f}%",
            f"{100 * headline.low:.1f} - {100 * headline.high:.1f}%",
            ""
            if gained is None
            else f"{100 * gained.value:+.1f} ({100 * gained.low:+.1f} to {100 * gained.high:+.1f})",
        )
    return table


def summary(main: Prompted, data: ClassificationSet, *, model: LoadedModel) -> list[str]:
    """Return lines that complete the table: the model, frequent confusions, skipped images."""
    how = (
        ""
        if model.embeds
        else f"; scored by {model.objective_name}, in which short and common names have an advantage"
    )
    result, prompts = main.result, main.prompts
    found = [
        f"{model.description}; {len(data.classes)} classes, prompts {prompts.name} ({len(prompts.templates)}){how}"
    ]
    if isinstance(result, ZeroShotResult):
        shown = [
            f"{printable(each.true)} taken for {printable(each.predicted)} {each.images}"
            for each in result.confusions[:SHOWN_CONFUSIONS]
        ]
        if shown:
            found.append(f"most often: {', '.join(shown)}")
    elif absent := [each.name for each in result.classes if not each.images]:
        found.append(f"classes that no image has, left out of the means: {', '.join(absent[:10])}")
    skipped = {**data.left_out, **({"unreadable": result.unreadable} if result.unreadable else {})}
    if skipped:
        found.append("left out: " + ", ".join(f"{len(keys)} {reason}" for reason, keys in skipped.items()))
    return found

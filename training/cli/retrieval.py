"""`wit-train retrieval`: a table, a JSON and a contact sheet."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.files import FOLDER
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import ImageToImageMeasurement
from openwit.training.data.sharded import Dataset
from openwit.training.evaluation.grouped import GroupedImages
from openwit.training.evaluation.measurements.context import MeasureContext
from openwit.training.evaluation.measurements.registry import code_of
from openwit.training.evaluation.retrieval import CUTOFFS, DIRECTIONS, RULES, RetrievalResult
from openwit.training.evaluation.retrieval_report import (
    RULE_TEXT,
    RetrievalReport,
    evaluate_retrieval,
)

RESULT_NAME = "retrieval.json"
IMAGE_RESULT_NAME = "image-retrieval.json"


def run_retrieval(
    model: LoadedModel,
    dataset: Dataset,
    *,
    console: Console,
    out: Path,
    contact_sheet: Path | None,
    batch_size: int,
    limit: int | None,
    allow_train: bool,
    prefix: str = "",
) -> RetrievalReport:
    """Evaluate, print the table, write the files."""

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    if not model.embeds:
        raise RecipeError(
            f"the model was trained for {model.objective_name}, which has no embeddings for retrieval: evaluate it "
            "with `wit-train zero-shot`"
        )
    for note in model.notes:
        say(note)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("embedding", total=None)
        report = evaluate_retrieval(
            model,
            dataset,
            batch_size=batch_size,
            limit=limit,
            allow_train=allow_train,
            prefix=prefix,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    result = report.result
    sizes = f"{result.images} images, {result.entries} texts"
    console.print(result_table(result, f"{dataset.name}/{dataset.split}, {sizes}"))
    say(f"{model.description}; {legend(result)}")
    if report.embedded.unreadable:
        say(f"{len(report.embedded.unreadable)} unreadable samples were skipped{named(report.embedded.unreadable)}")
    atomic_write(out / RESULT_NAME, json.dumps(report.record(), indent=1) + "\n")
    say(f"wrote {out / RESULT_NAME}")
    if contact_sheet is not None:
        report.draw_contact_sheet(contact_sheet)
        say(f"wrote {contact_sheet}")
    return report


def run_image_retrieval(
    model: LoadedModel,
    data: DatasetSettings,
    how: ImageToImageMeasurement,
    *,
    console: Console,
    out: Path,
    batch_size: int,
) -> None:
    """Evaluate image to image, print the table, write the file."""

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    code = code_of(how.name)
    opened: GroupedImages = code.open_data(data, how, say)
    for note in model.notes:
        console.print(note, markup=False, soft_wrap=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("embedding", total=None)
        context = MeasureContext(
            model,
            data,
            batch_size=batch_size,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        found = code.measure(context, opened, how)
    record = {
        "data": opened.title,
        **model.about,
        **found.details,
        "unreadable": found.unreadable,
        "left_out": opened.left_out,
        "interval": f"95% {next(iter(found.metrics.values())).interval}",
        "chance": "expected recall of a uniformly random order, exact",
    }
    table = Table(title=f"image to image on {opened.title}, {record['queries']} queries", title_justify="left")
    for heading in ("k", "recall@k", "95% interval", "chance"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in record["recalls"]:
        interval = f"{100 * each['low']:.1f} - {100 * each['high']:.1f}%"
        table.add_row(str(each["k"]), f"{100 * each['value']:.1f}%", interval, f"{100 * each['chance']:.2f}%")
    console.print(table)
    unreadable = record["unreadable"]
    skipped = f"; {len(unreadable)} unreadable were skipped{named(unreadable)}" if unreadable else ""
    sizes = f"{record['groups']} groups, {record['images']} images{skipped}"
    console.print(f"{model.description}; {sizes}", markup=False, soft_wrap=True)
    atomic_write(out / IMAGE_RESULT_NAME, json.dumps(record, indent=1) + "\n")
    console.print(f"wrote {out / IMAGE_RESULT_NAME}", markup=False, soft_wrap=True)


def check_options(image_to_image: bool, captioned: Mapping[str, object], grouped: Mapping[str, object]) -> None:
    """Refuse options of the other kind of retrieval, which would be ignored.

    Raises:
        RecipeError: naming the first one.
    """
    wrong = captioned if image_to_image else grouped
    for name, value in wrong.items():
        if value:
            both = "does not apply to" if image_to_image else "needs"
            raise RecipeError(f"{name} {both} --image-to-image")


def named(keys: Sequence[str]) -> str:
    """Return the first keys of a list, to end a sentence."""
    return f": {', '.join(keys[:3])}{', …' if len(keys) > 3 else ''}"


def result_folder(path: Path) -> Path:
    """Return the folder for results of a run folder, a checkpoint in one, or another file."""
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name == FOLDER else path.parent


def result_table(result: RetrievalResult, title: str) -> Table:
    """Return the result as a table; if all texts are distinct, the two rules agree and one is shown."""
    table = Table(title=title, title_justify="left")
    for heading in ("direction", "rule"):
        table.add_column(heading)
    for heading in ("k", "recall@k", "95% interval", "chance", "x chance"):
        table.add_column(heading, justify="right", no_wrap=True)
    rules = RULES if result.entries != result.distinct_texts else RULES[:1]
    for direction in DIRECTIONS:
        for rule in rules:
            for recall in result.recalls[direction][rule]:
                table.add_row(
                    direction.replace("_", " "),
                    rule,
                    str(recall.k),
                    f"{100 * recall.value:.1f}%",
                    f"{100 * recall.low:.1f} - {100 * recall.high:.1f}%",
                    f"{100 * recall.chance:.2f}%",
                    f"{recall.value / recall.chance:.1f}",
                    end_section=recall.k == CUTOFFS[-1],
                )
    return table


def legend(result: RetrievalResult) -> str:
    """Return the meaning of the rules in the table."""
    if result.entries == result.distinct_texts:
        return "all texts are distinct"
    return "; ".join(f"{rule}: {meaning}" for rule, meaning in RULE_TEXT.items())

"""`wit-train overlap`: a table, a JSON, a plot, and a page with the pairs found."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from openwit.schemas.common.atomic import atomic_write, sha256_of
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.printable import printable
from openwit.schemas.common.wording import counted
from openwit.training.checkpoints.load import load_model
from openwit.training.config.choices import Weights
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import OverlapMeasurement
from openwit.training.evaluation.measurements.overlap import open_data
from openwit.training.evaluation.overlap.answers import classified, read_results
from openwit.training.evaluation.overlap.measure import EvaluationSet, Measured, measure, record_of
from openwit.training.evaluation.overlap.page import cells, difference_svg, page_html
from openwit.training.evaluation.prompt_sets import Prompts


@dataclass(frozen=True)
class OverlapOptions:
    """Options of the command; see its help."""

    data: Sequence[Path]
    report: Sequence[Path]
    results: Sequence[Path] = ()
    prompts: str | None = None
    split: str | None = None
    classes: Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    limit: int | None = None
    pairs: int = 60
    batch_size: int = 256
    weights: Weights = Weights.MODEL
    quick_gelu: bool | None = None
    out: Path | None = None
    page: Path | None = None
    plot: Path | None = None


def overlap_command(models: Sequence[Path], options: OverlapOptions, *, console: Console) -> list[Measured]:
    """Check the options, match the sets with their reports, classify, compare, print and write.

    Raises:
        RecipeError: options do not go together.
        DataError: data, reports, results or models are not usable.
    """

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    _check(models, options)
    sets, prompts = _opened(options, console)
    for each in sets:
        for line in _notes(each):
            say(line)
    measured: list[Measured] = []
    about: dict[str, Any]
    if options.results:
        answers = [read_results(path, each.data, say) for path, each in zip(options.results, sets, strict=True)]
        about = {"results": [{"file": str(path), "sha256": sha256_of(path)} for path in options.results]}
        measured += measure("results", sets, answers, about)
    for number, path in enumerate(models):
        model = load_model(path, weights=options.weights, quick_gelu=options.quick_gelu, report=say)
        for note in model.notes:
            say(note)
        answers = []
        for each, chosen in zip(sets, prompts, strict=True):
            with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task("classifying", total=len(each.data))
                answers.append(
                    classified(
                        model,
                        each.data,
                        chosen.templates,
                        batch_size=options.batch_size,
                        progress=lambda done, _, task=task, bar=progress: bar.update(task, completed=done),  # type: ignore[misc]
                    )
                )
        subject = path.resolve().name if len({each.resolve().name for each in models}) == len(models) else str(path)
        about = {**model.about, "prompts": [each.name for each in prompts]}
        measured += measure(subject or f"model {number + 1}", sets, answers, about)
    _show(measured, console)
    for line in _left_out(measured):
        say(line)
    _write(measured, options, say)
    return measured


def _check(models: Sequence[Path], options: OverlapOptions) -> None:
    if len(options.data) != len(options.report):
        raise RecipeError(
            f"{counted(len(options.data), 'evaluation set')} (--data) and {counted(len(options.report), 'report')} "
            "(--report): give one report for each, in the same order"
        )
    if not models and not options.results:
        raise RecipeError("give a model, or results per image (--results) for each evaluation set")
    if options.results and len(options.results) != len(options.data):
        raise RecipeError(
            f"{counted(len(options.results), 'file')} of results (--results) for "
            f"{counted(len(options.data), 'evaluation set')}: give one for each, in the same order"
        )
    for given, what in ((options.data, "evaluation set"), (models, "model")):
        places = [path.resolve() for path in given]
        twice = next((path for number, path in enumerate(given) if places[number] in places[:number]), None)
        if twice is not None:
            raise RecipeError(f"the {what} {twice} is given twice: each counts once, in the correction too")
    if not models and options.prompts is not None:
        raise RecipeError("--prompts is for models: results say themselves what is right")


def _opened(options: OverlapOptions, console: Console) -> tuple[list[EvaluationSet], list[Prompts]]:
    sets: list[EvaluationSet] = []
    prompts: list[Prompts] = []
    how = OverlapMeasurement(prompts=[] if options.prompts is None else [options.prompts], limit=options.limit)
    for path, where in zip(options.data, options.report, strict=True):
        data = DatasetSettings(
            name="data",
            data=path,
            split=options.split,
            classes=options.classes,
            image_column=options.image_column,
            label_column=options.label_column,
            report=where,
        )
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("matching with the report", total=None)

            def advance(done: int, total: int, task: object = task, bar: Progress = progress) -> None:
                bar.update(task, completed=done, total=total)  # type: ignore[arg-type]

            opened = open_data(data, how, lambda _: None, advance, single=not options.results)
        sets.append(opened.evaluation)
        prompts.append(opened.prompts)
    return sets, prompts


def _notes(each: EvaluationSet) -> list[str]:
    found = list(each.data.notes)
    matched = each.matched
    for reason, keys in matched.unmatched.items():
        found.append(
            f"{each.data.title}: {counted(len(keys), 'image')} {reason} and left out: {', '.join(keys[:3])}"
            f"{', …' if len(keys) > 3 else ''}"
        )
    if matched.unused:
        found.append(f"{each.where}: {counted(matched.unused, 'image')} of the report not in {each.data.title}")
    return found


def _left_out(measured: Sequence[Measured]) -> list[str]:
    return [
        f"{each.subject} on {each.evaluation.data.title}: left out: "
        + ", ".join(f"{len(keys):,} {reason} ({', '.join(keys[:3])})" for reason, keys in left.items())
        for each in measured
        if (left := {**each.evaluation.data.left_out, **each.answers.left_out})
    ]


def _show(measured: Sequence[Measured], console: Console) -> None:
    """Print a row of two lines per result, so that a table fits 80 columns."""
    table = Table(title="overlap of training and evaluation images", title_justify="left")
    table.add_column("model\ndata", overflow="fold")
    for heading in ("overlap", "all", "clean", "on overlap\n99.5%", "all -\nclean", "p\ncorrected"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in measured:
        model, data, images, overlap, every, clean, over, interval, gain, p_value, corrected = cells(each)
        shown, _, share = overlap.partition(" ")
        table.add_row(
            escape(f"{printable(model)}\n{printable(data)}"),
            f"{shown} of {images}\n{share.strip('()')}",
            every,
            clean,
            f"{over}\n{interval.replace('%', '')}",
            gain,
            f"{p_value}\n{corrected}",
        )
    console.print(table)
    found = [each for each in measured if each.result.significant]
    tests = measured[0].result.tests
    console.print(
        f"{len(found)} of {counted(len(measured), 'result')} significant at 5% after Bonferroni over "
        f"{counted(tests, 'evaluation set')}",
        markup=False,
        soft_wrap=True,
    )


def _write(measured: Sequence[Measured], options: OverlapOptions, say: Callable[[str], None]) -> None:
    if options.out is not None:
        atomic_write(options.out, json.dumps(record_of(measured), indent=1, ensure_ascii=False) + "\n")
        say(f"wrote {options.out}")
    if options.plot is not None:
        atomic_write(options.plot, difference_svg(measured))
        say(f"wrote {options.plot}")
    if options.page is not None:
        atomic_write(options.page, page_html(measured, options.pairs))
        say(f"wrote {options.page}")

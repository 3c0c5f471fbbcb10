"""`wit-train zero-shot`: a table and a JSON."""

import json
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from openwit.schemas.common.atomic import atomic_write
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.zero_shot import Share, ZeroShotResult
from openwit.training.evaluation.zero_shot_report import ambiguous, evaluate_zero_shot, zero_shot_record

SHOWN_CONFUSIONS = 5


def run_zero_shot(
    model: LoadedModel,
    data: ClassificationSet,
    *,
    console: Console,
    prompts: str,
    templates: tuple[str, ...],
    limit: int | None,
    batch_size: int,
    out: Path | None,
) -> ZeroShotResult:
    """Evaluate, print the table, write the file."""

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    for note in (*model.notes, *data.notes, *ambiguous(data)):
        say(note)
    begun, used = time.perf_counter(), time.process_time()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("classifying", total=len(data))
        result = evaluate_zero_shot(
            model,
            data,
            templates=templates,
            batch_size=batch_size,
            progress=lambda done, _: progress.update(task, completed=done),
        )
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    console.print(result_table(result, f"zero-shot on {data.title}, {result.images} images"))
    for line in summary(result, data, model=model, prompts=prompts, templates=len(templates)):
        say(line)
    say(f"{result.images / seconds:,.0f} images/s ({used:.1f} s of CPU)")
    if out is not None:
        record = zero_shot_record(model, data, result=result, prompts=prompts, templates=templates, limit=limit)
        atomic_write(out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        say(f"wrote {out}")
    return result


def result_table(result: ZeroShotResult, title: str) -> Table:
    """Return the result as a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for heading in ("value", "95% interval", "chance", "x chance"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows: dict[str, Share | None] = {
        "top-1": result.top1,
        "top-5": result.top5,
        "mean per class": result.mean_per_class,
    }
    for name, share in rows.items():
        if share is not None:
            table.add_row(
                name,
                f"{100 * share.value:.1f}%",
                f"{100 * share.low:.1f} - {100 * share.high:.1f}%",
                f"{100 * share.chance:.2f}%",
                f"{share.value / share.chance:.1f}",
            )
    return table


def summary(
    result: ZeroShotResult, data: ClassificationSet, *, model: LoadedModel, prompts: str, templates: int
) -> list[str]:
    """Return lines that complete the table: the model, frequent confusions, skipped images."""
    how = (
        ""
        if model.embeds
        else f"; scored by {model.objective_name}, in which short and common names have an advantage"
    )
    found = [f"{model.description}; {len(data.classes)} classes, prompts {prompts} ({templates}){how}"]
    shown = [f"{each.true} taken for {each.predicted} {each.images}" for each in result.confusions[:SHOWN_CONFUSIONS]]
    if shown:
        found.append(f"most often: {', '.join(shown)}")
    skipped = {**data.left_out, **({"unreadable": result.unreadable} if result.unreadable else {})}
    if skipped:
        found.append("left out: " + ", ".join(f"{len(keys)} {reason}" for reason, keys in skipped.items()))
    return found

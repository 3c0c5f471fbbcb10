"""`wit-train zero-shot`: from a model and a set of labelled images to a table and a JSON."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from openwit.schemas.common.atomic import atomic_write
from openwit.training.engine.runtime import cpu_prepared, make_autocast, pick_device
from openwit.training.evaluation.classification_data import ClassificationSet, open_classification
from openwit.training.evaluation.classification_readers import Wanted
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.prompts import read_prompts
from openwit.training.evaluation.subject import Subject, read_subject
from openwit.training.evaluation.zero_shot import (
    HeadScorer,
    ObjectiveScorer,
    Report,
    Scorer,
    Share,
    ZeroShotResult,
    classify,
    summed_up,
)

SHOWN_CONFUSIONS = 5


@dataclass(frozen=True)
class ZeroShotJob:
    """What the command line asks for (see `openwit.training.cli.main.zero_shot`)."""

    model: Path
    wanted: Wanted
    prompts: str = "paper"
    limit: int | None = None
    batch_size: int = 256
    weights: str = "model"
    quick_gelu: bool | None = None
    out: Path | None = None

    def run(self, console: Console) -> ZeroShotResult:
        """Evaluates, prints the table, writes the file.

        Raises:
            OpenWITError: no model, no such data, or prompts that are none.
        """

        def say(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        templates = read_prompts(self.prompts)
        data = open_classification(self.wanted).limited(self.limit)
        subject = read_subject(self.model, self.weights, self.quick_gelu, say)
        for note in (*subject.notes, *ambiguous(data)):
            say(note)
        begun, used = time.perf_counter(), time.process_time()
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("classifying", total=len(data))
            result = zero_shot(
                subject, data, templates, self.batch_size, lambda done, _: progress.update(task, completed=done)
            )
        seconds, used = time.perf_counter() - begun, time.process_time() - used
        console.print(result_table(result, f"zero-shot on {data.title}, {result.images} images"))
        for line in lines(result, data, subject, self.prompts, len(templates)):
            say(line)
        say(f"{result.images / seconds:,.0f} images/s ({used:.1f} s of CPU)")
        if self.out is not None:
            record = self._record(subject, data, templates, result)
            atomic_write(self.out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            say(f"wrote {self.out}")
        return result

    def _record(
        self, subject: Subject, data: ClassificationSet, templates: tuple[str, ...], result: ZeroShotResult
    ) -> dict[str, object]:
        return {
            "data": data.name,
            "split": data.split,
            "limit": self.limit,
            **subject.about,
            "prompts": self.prompts,
            "templates": templates,
            "scored_by": "cosine with the mean of the templates' embeddings" if subject.embeds else subject.kind,
            "intervals": "95%; shares: Wilson's score; mean per class: bootstrap within classes, 2000 resamples",
            "ties": "a wrong class of equal score stands before the right one",
            "left_out": data.left_out,
            **asdict(result),
        }


def zero_shot(
    subject: Subject,
    data: ClassificationSet,
    templates: tuple[str, ...],
    batch_size: int,
    report: Report | None = None,
) -> ZeroShotResult:
    """Classifies a set with a model, on the GPU where there is one."""
    device = pick_device("auto")
    autocast = make_autocast(device, subject.precision)
    model = subject.model.to(device)
    spec = model.spec
    with cpu_prepared(subject.threads):
        scorer: Scorer
        if subject.embeds:
            embedder = Embedder(model, subject.tokenizer, device, autocast, batch_size)
            scorer = HeadScorer(embedder, data.classes, templates)
        else:
            scorer = ObjectiveScorer(
                model, subject.objective, subject.tokenizer, device, autocast, data.classes, templates
            )
        answers = classify(data, scorer, spec.vision.image_size, batch_size, report)
    return summed_up(answers, data.classes)


def ambiguous(data: ClassificationSet) -> list[str]:
    """A sentence where classes share a name, as no model can then tell them apart."""
    shared = sorted({name for name in data.classes if data.classes.count(name) > 1})
    if not shared:
        return []
    return [f"{len(shared)} names are those of several classes, whose images count as wrong: {', '.join(shared[:5])}"]


def result_table(result: ZeroShotResult, title: str) -> Table:
    """The figures as a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
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


def lines(
    result: ZeroShotResult, data: ClassificationSet, subject: Subject, prompts: str, templates: int
) -> list[str]:
    """What the table does not say."""
    how = "" if subject.embeds else f"; scored by {subject.kind}, in which short and common names have an advantage"
    found = [f"{subject.sentence}; {len(data.classes)} classes, prompts {prompts} ({templates}){how}"]
    shown = [f"{each.true} taken for {each.predicted} {each.images}" for each in result.confusions[:SHOWN_CONFUSIONS]]
    if shown:
        found.append(f"most often: {', '.join(shown)}")
    left_out = {**data.left_out, **({"unreadable": result.unreadable} if result.unreadable else {})}
    if left_out:
        found.append("left out: " + ", ".join(f"{len(keys)} {reason}" for reason, keys in left_out.items()))
    return found

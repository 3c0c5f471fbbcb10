"""`wit-train retrieval`: from a checkpoint and a split to a table, a JSON and a contact sheet."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import OpenWITError
from openwit.training.checkpoints.files import FOLDER
from openwit.training.data.sharded import ShardedDataset
from openwit.training.engine.runtime import cpu_prepared, make_autocast, pick_device
from openwit.training.evaluation.contact_sheet import draw_contact_sheet
from openwit.training.evaluation.embed import EmbeddedSplit, Embedder
from openwit.training.evaluation.retrieval import CUTOFFS, DIRECTIONS, RULES, RetrievalResult, retrieval
from openwit.training.evaluation.subject import Subject, read_subject

RESULT_NAME = "retrieval.json"

RULE_TEXT = {
    "strict": "only the image's own (image, text) entries count; equal texts of other images are wrong answers",
    "shared": "an exactly equal text of another image counts as right too",
}


@dataclass(frozen=True)
class RetrievalJob:
    """What the command line asks for (see `openwit.training.cli.main.retrieval`)."""

    model: Path
    dataset: Path
    split: str
    batch_size: int
    limit: int | None
    out: Path | None
    contact_sheet: Path | None
    allow_train: bool
    weights: str = "model"
    quick_gelu: bool | None = None

    def run(self, console: Console) -> RetrievalResult:
        """Evaluates, prints the table, writes the files.

        Raises:
            OpenWITError: no model that embeds, no such split, or the split the model was trained on.
        """

        def say(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        subject = read_subject(self.model, self.weights, self.quick_gelu, say)
        if not subject.embeds:
            raise OpenWITError(
                f"{self.model} was trained for {subject.kind}, which has no two towers to retrieve by: "
                "evaluate it with `wit-train zero-shot`"
            )
        dataset = ShardedDataset(self.dataset, self.split)
        self._refuse_training_data(subject, dataset)
        for note in subject.notes:
            say(note)
        split = self._embed(subject, dataset, console)
        result = retrieval(split)
        console.print(result_table(result, f"{dataset.name}/{dataset.split}, {result.images} images"))
        say(f"{subject.sentence}; {legend(result)}")
        if split.unreadable:
            say(f"{len(split.unreadable)} unreadable samples were left out")
        out = self._out_folder()
        atomic_write(out / RESULT_NAME, json.dumps(self._record(subject, dataset, split, result), indent=1) + "\n")
        say(f"wrote {out / RESULT_NAME}")
        if self.contact_sheet is not None:
            self._draw(subject, dataset, split, result, self.contact_sheet)
            say(f"wrote {self.contact_sheet}")
        return result

    def _refuse_training_data(self, subject: Subject, dataset: ShardedDataset) -> None:
        if subject.checkpoint is None:
            return
        info = subject.checkpoint.info
        same_data = dataset.manifest_sha256 == info.dataset_sha256 or dataset.name == info.dataset_name
        if same_data and self.split == info.config.data.split and not self.allow_train:
            raise OpenWITError(
                f"the model was trained on split {self.split!r} of {dataset.name!r}: choose a held-out split, "
                "or pass --allow-train to evaluate on it all the same"
            )

    def _embed(self, subject: Subject, dataset: ShardedDataset, console: Console) -> EmbeddedSplit:
        device = pick_device("auto")
        autocast = make_autocast(device, subject.precision)
        model = subject.model.to(device)
        embedder = Embedder(model, subject.tokenizer, device, autocast, self.batch_size, subject.fast_decode)
        with (
            cpu_prepared(subject.threads),
            Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
        ):
            task = progress.add_task("embedding", total=None)
            return embedder.split(
                dataset, self.limit, lambda done, whole: progress.update(task, completed=done, total=whole)
            )

    def _out_folder(self) -> Path:
        if self.out is not None:
            return self.out
        if self.model.is_dir():
            return self.model
        inside = self.model.parent.name == FOLDER
        return self.model.parent.parent if inside else self.model.parent

    def _record(
        self, subject: Subject, dataset: ShardedDataset, split: EmbeddedSplit, result: RetrievalResult
    ) -> dict[str, object]:
        return {
            "dataset": dataset.name,
            "dataset_sha256": dataset.manifest_sha256,
            "split": dataset.split,
            **subject.about,
            "images": result.images,
            "entries": result.entries,
            "distinct_texts": result.distinct_texts,
            "unreadable": split.unreadable,
            "rules": RULE_TEXT,
            "interval": "95% percentile bootstrap over images, 2000 resamples, gallery fixed",
            "chance": "expected recall of a uniformly random order, exact",
            "recall": {
                direction: {rule: [asdict(r) for r in result.recalls[direction][rule]] for rule in RULES}
                for direction in DIRECTIONS
            },
        }

    def _draw(
        self,
        subject: Subject,
        dataset: ShardedDataset,
        split: EmbeddedSplit,
        result: RetrievalResult,
        path: Path,
    ) -> None:
        recall = result.at("text_to_image", "strict", 1)
        tenth = result.at("text_to_image", "strict", 10)
        title = f"Text to image on {dataset.name} / {dataset.split}"
        subtitle = (
            f"The ten best of {result.images} images for each caption.   Recall@1: {100 * recall.value:.1f}% "
            f"(chance {100 * recall.chance:.2f}%), recall@10: {100 * tenth.value:.1f}% "
            f"(chance {100 * tenth.chance:.2f}%).   {subject.sentence}."
        )
        draw_contact_sheet(path, split, dataset, title, subtitle)


def result_table(result: RetrievalResult, title: str) -> Table:
    """The figures as a table; where all texts are distinct the two rules agree, and one is shown."""
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
    """What the rules of the table mean, as far as they are shown."""
    if result.entries == result.distinct_texts:
        return "all texts are distinct"
    return "; ".join(f"{rule}: {meaning}" for rule, meaning in RULE_TEXT.items())

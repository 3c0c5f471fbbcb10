"""`wit-train retrieval`: from a checkpoint and a split to a table, a JSON and a contact sheet."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from schemas.atomic import atomic_write
from schemas.errors import UserError
from training.checkpoint import Checkpoint, find_checkpoint, restore_model
from training.data import ShardedDataset
from training.evaluation.contact_sheet import draw_contact_sheet
from training.evaluation.embed import EmbeddedSplit, Embedder
from training.evaluation.retrieval import CUTOFFS, DIRECTIONS, RULES, RetrievalResult, retrieval
from training.models.clip import Clip
from training.runtime import cpu_prepared, make_autocast, pick_device
from training.tokenizer import clip_tokenizer

RESULT_NAME = "retrieval.json"

RULE_TEXT = {
    "strict": "only the image's own (image, text) entries count; equal texts of other images are wrong answers",
    "shared": "an exactly equal text of another image counts as right too",
}


@dataclass(frozen=True)
class RetrievalJob:
    """What the command line asks for (see `training.cli.retrieval`)."""

    model: Path
    dataset: Path
    split: str
    batch_size: int
    limit: int | None
    out: Path | None
    contact_sheet: Path | None
    allow_train: bool

    def run(self, console: Console) -> RetrievalResult:
        """Evaluates, prints the table, writes the files.

        Raises:
            UserError: no checkpoint, no such split, or the split the model was trained on.
        """
        checkpoint = find_checkpoint(self.model, lambda line: console.print(line, markup=False))
        dataset = ShardedDataset(self.dataset, self.split)
        self._refuse_training_data(checkpoint, dataset)
        split = self._embed(checkpoint, dataset, console)
        result = retrieval(split)
        console.print(result_table(result, f"{dataset.name}/{dataset.split}, {result.images} images"))
        console.print(
            f"step {checkpoint.info.step}, {checkpoint.info.samples} samples seen; {legend(result)}", markup=False
        )
        if split.unreadable:
            console.print(f"{len(split.unreadable)} unreadable samples were left out", markup=False)
        out = self._out_folder()
        atomic_write(out / RESULT_NAME, json.dumps(self._record(checkpoint, dataset, split, result), indent=1) + "\n")
        console.print(f"wrote {out / RESULT_NAME}", markup=False, soft_wrap=True)
        if self.contact_sheet is not None:
            self._draw(checkpoint, dataset, split, result, self.contact_sheet)
            console.print(f"wrote {self.contact_sheet}", markup=False, soft_wrap=True)
        return result

    def _refuse_training_data(self, checkpoint: Checkpoint, dataset: ShardedDataset) -> None:
        info = checkpoint.info
        same_data = dataset.manifest_sha256 == info.dataset_sha256 or dataset.name == info.dataset_name
        if same_data and self.split == info.config.data.split and not self.allow_train:
            raise UserError(
                f"the model was trained on split {self.split!r} of {dataset.name!r}: choose a held-out split, "
                "or pass --allow-train to evaluate on it all the same"
            )

    def _embed(self, checkpoint: Checkpoint, dataset: ShardedDataset, console: Console) -> EmbeddedSplit:
        config = checkpoint.info.config
        device = pick_device("auto")
        model = Clip(config.model.resolved())
        restore_model(model, checkpoint)
        embedder = Embedder(
            model.to(device),
            clip_tokenizer(),
            device,
            make_autocast(device, config.precision),
            self.batch_size,
            config.data.decode == "fast",
        )
        with (
            cpu_prepared(config.threads),
            Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
        ):
            task = progress.add_task("embedding", total=None)
            return embedder.split(
                dataset, self.limit, lambda done, whole: progress.update(task, completed=done, total=whole)
            )

    def _out_folder(self) -> Path:
        if self.out is not None:
            return self.out
        return self.model if self.model.is_dir() else self.model.parent.parent

    def _record(
        self, checkpoint: Checkpoint, dataset: ShardedDataset, split: EmbeddedSplit, result: RetrievalResult
    ) -> dict[str, object]:
        info = checkpoint.info
        return {
            "dataset": dataset.name,
            "dataset_sha256": dataset.manifest_sha256,
            "split": dataset.split,
            "checkpoint": checkpoint.path.name,
            "checkpoint_sha256": info.sha256,
            "trained_on": {
                "dataset": info.dataset_name,
                "sha256": info.dataset_sha256,
                "split": info.config.data.split,
            },
            "step": info.step,
            "samples_seen": info.samples,
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
        checkpoint: Checkpoint,
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
            f"(chance {100 * tenth.chance:.2f}%).   {checkpoint.info.samples:,} samples seen in training."
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

"""What a run of the demo gave, as Markdown: the README and docs/demo.md take their figures from here, none by hand."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import DataError
from openwit.schemas.manifest import DatasetManifest
from openwit.workflows.marks import fill_marks, update_page

RECORD = "demo.json"
"""What `run_demo` writes beside the dataset: seconds of each part, date, versions, cores and load of the machine."""

_SPLITS = {"val": "known sites", "test": "unseen site"}
_DIRECTIONS = {"text_to_image": "text to image", "image_to_text": "image to text"}


@dataclass(frozen=True)
class DemoResult:
    """A finished demo: its dataset's manifest, the retrieval results by split, and the record of the run."""

    dataset: DatasetManifest
    retrieval: dict[str, dict[str, Any]]
    record: dict[str, Any]

    @classmethod
    def load(cls, out: Path) -> "DemoResult":
        """Reads the folder of a finished demo.

        Raises:
            DataError: the folder holds no finished demo.
        """
        try:
            record = json.loads((out / RECORD).read_text())
            retrieval = {
                split: json.loads((out / f"retrieval-{split}" / "retrieval.json").read_text()) for split in _SPLITS
            }
        except (OSError, ValueError) as error:
            raise DataError(f"{out} holds no finished demo ({error}): run the demo first") from error
        return cls(DatasetManifest.load(out / "dataset"), retrieval, record)


def conditions(result: DemoResult) -> str:
    """One sentence: when, on what, how long each part took."""
    seconds = result.record["seconds"]
    minutes = sum(seconds.values()) / 60
    parts = ", ".join(f"{name} {value / 60:.1f}" for name, value in seconds.items())
    cores, load = result.record["cores"], result.record["load"]
    shared = f", shared with other work (load {load:g})" if load > cores + 1 else ""
    return (
        f"{result.record['date']}, {cores} cores{shared}, Python {result.record['python']}, "
        f"torch {result.record['torch']}: {minutes:.1f} minutes after installation ({parts})."
    )


def sizes(result: DemoResult) -> str:
    """What was built: samples by split and pairs."""
    dataset = result.dataset
    splits = ", ".join(f"{dataset.samples(split):,} in `{split}`" for split in dataset.splits())
    pairs = sum(shard.pairs for shard in dataset.shards)
    images = sum(map(dataset.samples, dataset.splits()))
    return f"Dataset `{dataset.name}`: {pairs:,} pairs on {images:,} images: {splits}."


def recall_table(result: DemoResult) -> str:
    """Recall@1 and @10 of both splits and directions, with intervals and chance."""
    lines = ["| pictures never seen | | recall@1 | recall@10 | chance @1, @10 |", "|---|---|---|---|---|"]
    for split, what in _SPLITS.items():
        found = result.retrieval[split]
        name = f"{what}, {found['images']:,}"
        for direction, words in _DIRECTIONS.items():
            at = {recall["k"]: recall for recall in found["recall"][direction]["strict"]}
            cells = [f"{at[k]['value']:.1%} ({100 * at[k]['low']:.1f}–{100 * at[k]['high']:.1f})" for k in (1, 10)]
            chance = ", ".join(f"{at[k]['chance']:.2%}" for k in (1, 10))
            lines.append(f"| {name} | {words} | {cells[0]} | {cells[1]} | {chance} |")
            name = ""
    return "\n".join(lines)


def funnel_table(result: DemoResult) -> str:
    """Every step of the build: rows in, rows out, and every drop reason."""
    lines = ["| stage | unit | in | out | dropped, by reason |", "|---|---|---:|---:|---|"]
    for step in result.dataset.funnel:
        reasons = sorted(step.reasons.items(), key=lambda item: (-item[1], item[0]))
        dropped = ", ".join(f"`{reason}` {count:,}" for reason, count in reasons)
        lines.append(f"| {step.stage} | {step.unit} | {step.rows_in:,} | {step.rows_out:,} | {dropped} |")
    return "\n".join(lines)


BLOCKS = {"conditions": conditions, "sizes": sizes, "recall": recall_table, "funnel": funnel_table}
"""What a page may hold between `<!-- demo: NAME -->` and `<!-- /demo -->`."""


def render(text: str, result: DemoResult) -> str:
    """Fills the marked blocks of a page.

    Raises:
        DataError: a mark names no block.
    """
    return fill_marks(text, "demo", {name: partial(block, result) for name, block in BLOCKS.items()})


def update(page: Path, result: DemoResult) -> bool:
    """Renders a page in place; returns whether it changed."""
    return update_page(page, lambda text: render(text, result))

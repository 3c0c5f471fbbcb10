"""Choose among the samples of finished datasets: by conditions, lists of uids, earlier steps, and once of several.

Two passes over the shards' metadata. The first judges each shard on its own; the second writes what is chosen and why
the rest is not. Between them the driver finds samples that several inputs have, from four hashes a sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openwit.pipeline.dataset.rewrite_reasons import TEXT_DROPPED
from openwit.pipeline.execution.files import STAGE
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job, StageResult
from openwit.pipeline.rewriting.judged import Judged
from openwit.pipeline.rewriting.selector import Selector, prepare_keep_list
from openwit.pipeline.rewriting.settings import ChooseSettings
from openwit.pipeline.rewriting.sources import Sources, SourceShard
from openwit.pipeline.rewriting.verdicts import (
    VERDICTS,
    count_listed,
    map_twice,
    twice_in,
    write_twice,
    write_verdicts,
)
from openwit.schemas.common.errors import DataError
from openwit.schemas.table import Column, TableSchema
from openwit.schemas.tables.candidates import DROPS

JUDGED = f"{STAGE}/judged"
_TEXT_LEFT = 500

CHOSEN = TableSchema(
    "chosen",
    1,
    "The samples of a shard that are kept, in their order.",
    (
        Column("row", pa.int32(), "row in the shard's metadata"),
        Column("texts", pa.list_(pa.int32()), "numbers of the texts that are kept; null for all", nullable=True),
    ),
)


@dataclass(frozen=True)
class ShardInput:
    """A shard of the inputs, by its number."""

    shard: int


class _OfShards(FileTask[ShardInput]):
    """Work on a shard of the inputs."""

    def __init__(self, settings: ChooseSettings, folder: Path, step: str, keep: Path | None) -> None:
        self.settings = settings
        self.folder = folder
        self.step = step
        self.keep = keep

    def __getstate__(self) -> dict[str, Any]:
        names = ("settings", "folder", "step", "keep")
        return {name: self.__dict__[name] for name in names}

    @cached_property
    def sources(self) -> Sources:
        """Return the inputs."""
        return Sources(self.settings.inputs, self.settings.without)

    @cached_property
    def _selector(self) -> Selector:
        return Selector(self.settings, self.keep)

    @cached_property
    def _judged(self) -> Judged | None:
        return Judged(self.folder / JUDGED) if self.settings.images == "judged" else None

    def verdicts(
        self, shard: SourceShard, samples: pa.Table
    ) -> tuple[list[tuple[str, str | None] | None], list[list[int] | None], np.ndarray]:
        """Return why each sample is dropped, which of its texts are kept, and its place in the list of uids."""
        found, listed = self._selector.verdicts(samples, shard.entry.split)
        texts: list[list[int] | None] = [None] * samples.num_rows
        judged = self._judged
        if judged is not None:
            archive, places = self.sources.name_of(shard), self.sources.places(shard, samples)
            left = judged.is_left(archive, places)
            urls, words = samples.column("url").to_pylist(), samples.column("texts").to_pylist()
            for row in range(samples.num_rows):
                if found[row] is not None:
                    continue
                if not left[row]:
                    found[row] = judged.reason_of(archive, places[row], urls[row])
                    continue
                kept = judged.texts_left(archive, places[row], words[row])
                texts[row] = kept if kept and len(kept) < len(words[row]) else None
        return found, texts, listed


class JudgeShard(_OfShards):
    """Find the samples of a shard that are kept if no other input has them."""

    def run(self, task: Task[ShardInput], folder: Path, stats: TaskStats) -> list[Path]:
        shard = self.sources.shards[task.payload.shard]
        samples = self.sources.samples(shard)
        found, _, listed = self.verdicts(shard, samples)
        path = folder / VERDICTS / f"{task.name}.parquet"
        rows = np.array([row for row, why in enumerate(found) if why is None], np.int64)
        write_verdicts(path, samples, rows, listed[rows], shard.number)
        stats.tick(samples.num_rows, 1.0)
        return [path]


class ChooseShard(_OfShards):
    """Write the samples of a shard that are kept, and the drops."""

    @cached_property
    def _twice(self) -> np.ndarray:
        return map_twice(self.folder)

    def run(self, task: Task[ShardInput], folder: Path, stats: TaskStats) -> list[Path]:
        shard = self.sources.shards[task.payload.shard]
        samples = self.sources.samples(shard)
        found, texts, _ = self.verdicts(shard, samples)
        self._drop_twice(shard, found)
        pair_counts = [len(ids) for ids in samples.column("pair_ids").to_pylist()]
        lines = (f"{self.step}/samples", f"{self.step}/pairs")
        stats.enter(lines[0], samples.num_rows)
        stats.enter(lines[1], sum(pair_counts))
        rows, kept, dropped = [], [], []
        for row, why in enumerate(found):
            if why is not None:
                stats.drop(lines[0], str(why[0]))
                stats.drop(lines[1], str(why[0]), pair_counts[row])
                dropped.append(row)
                continue
            numbers = texts[row]
            lost = pair_counts[row] - len(numbers) if numbers is not None else 0
            stats.leave(lines[0])
            stats.leave(lines[1], pair_counts[row] - lost)
            stats.drop(lines[1], TEXT_DROPPED, lost)
            rows.append(row)
            kept.append(numbers)
        chosen = folder / CHOSEN.name / f"{task.name}.parquet"
        CHOSEN.write(chosen, CHOSEN.table({"row": rows, "texts": kept}))
        drops = folder / "drops" / f"{task.name}.parquet"
        DROPS.write(drops, _drop_rows(samples, dropped, found))
        stats.tick(samples.num_rows, 1.0)
        return [chosen, drops]

    def _drop_twice(self, shard: SourceShard, found: list[tuple[str, str | None] | None]) -> None:
        for row, other, other_row, reason in twice_in(self._twice, shard.number):
            kept = self.sources.place_of(self.sources.shards[other])
            found[row] = (reason, f"row {other_row:,} of {kept}")


def _drop_rows(samples: pa.Table, rows: Sequence[int], found: Sequence[tuple[str, str | None] | None]) -> pa.Table:
    """Return a row of DROPS for each text of the samples that are dropped."""
    columns: dict[str, list[Any]] = {name: [] for name in DROPS.arrow.names}
    gone = samples.select(["url", "texts", "pair_ids"]).take(pa.array(rows, pa.int64())).to_pylist()
    for row, sample in zip(rows, gone, strict=True):
        reason, detail = found[row] or ("", None)
        for text, pair in zip(sample["texts"], sample["pair_ids"], strict=True):
            values = (bytes.fromhex(pair), sample["url"], text[:_TEXT_LEFT], str(reason), detail)
            for name, value in zip(DROPS.arrow.names, values, strict=True):
                columns[name].append(value)
    return DROPS.table(dict(columns))


def choose(job: Job, settings: ChooseSettings, sources: Sources, folder: Path, step: str) -> StageResult:
    """Choose samples; see the module.

    Raises:
        DataError: none is left, or a dataset cannot be read.
    """
    keep = prepare_keep_list(settings, folder)
    tasks = [Task(shard.number, f"{shard.number:06d}", ShardInput(shard.number)) for shard in sources.shards]
    several = len(sources.names) > 1 and settings.duplicates == "drop"
    result = StageResult()
    if several or keep is not None:
        judging = [Task(task.number, f"verdicts-{task.name}", task.payload) for task in tasks]
        job.run(folder, judging, "Judge samples", "samples", JudgeShard(settings, folder, step, keep))
        if several:
            write_twice(folder, sources)
        if keep is not None:
            result.extra["listed"] = count_listed(folder, keep)
    results = job.run(folder, tasks, "Choose samples", "samples", ChooseShard(settings, folder, step, keep))
    result.add_results(results, [f"{step}/samples", f"{step}/pairs"])
    if not result.funnel[0].rows_out:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in result.funnel[0].reasons.items()) or "there is none"
        raise DataError(f"no sample of {', '.join(sources.names)} is left: {reasons}")
    return result

"""Turn a lock into selected pairs: the step with which a rehydration begins."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from openwit.pipeline.common.host_buckets import host_bucket
from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job, StageManifest, StageResult
from openwit.pipeline.rehydration.lockfile import Lock, load_lock, queries_file
from openwit.pipeline.rehydration.verdict import INPUT_NOT_HERE
from openwit.pipeline.stages.base import SELECTED as SELECTED_KIND
from openwit.pipeline.stages.base import BuildContext, Inputs, Stage
from openwit.pipeline.stages.sidecars import QUERY_COUNTS_FILE
from openwit.schemas.common.atomic import atomic_path, sha256_of
from openwit.schemas.common.settings import Settings
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.reading import copy_file
from openwit.schemas.common.storage.remote import is_remote
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.candidates import DROPS, SELECTED

SAMPLES_STEP, PAIRS_STEP = "locked/samples", "locked/pairs"
_GROUPS = 8
_ROW_GROUP = 4096
_BY_TEXT = {
    "pair_ids": "pair_id", "texts": "text", "text_sources": "text_source", "languages": "language",
    "page_urls": "page_url", "archives": "archive", "record_offsets": "record_offset", "licenses": "license",
    "query_ids": "query_ids", "drawn_by": "drawn_by", "priorities": "priority",
}  # fmt: skip


class LockSettings(Settings):
    """Name the lock."""

    lock: str = Field(description="the lockfile")


class LockStage(Stage[LockSettings]):
    """A step that reads a lockfile; its manifest records the file's checksum, not its place.

    Args:
        lock: the file, where it was checked already.
    """

    settings = LockSettings

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock

    def recorded_settings(self, settings: LockSettings, build: BuildContext) -> dict[str, Any]:  # noqa: ARG002
        return {"lock": sha256_of(as_path(settings.lock)) if self._lock is None else self._lock.sha256}

    def lock(self, settings: LockSettings) -> Lock:
        """Return the lock, checked once."""
        return load_lock(as_path(settings.lock)) if self._lock is None else self._lock


@dataclass(frozen=True)
class Groups:
    """Row groups of a lock."""

    first: int
    end: int


class Locked(LockStage):
    """Give the pairs of a lock to fetch."""

    name = "locked"
    version = 1
    summary = "give the pairs of a lockfile to fetch"
    output = SELECTED_KIND

    def reasons(self) -> Sequence[Reason]:
        return (INPUT_NOT_HERE,)

    def history(self, inputs: Inputs) -> list[StageManifest]:  # noqa: ARG002
        return [] if self._lock is None else lineage(self._lock)

    def execute(
        self,
        job: Job,
        settings: LockSettings,
        inputs: Inputs,  # noqa: ARG002
        folder: Path,
        build: BuildContext,  # noqa: ARG002
    ) -> StageResult:
        lock = self.lock(settings)
        groups = pq.ParquetFile(cached(as_path(lock.path))).num_row_groups
        spans = [Groups(first, min(first + _GROUPS, groups)) for first in range(0, groups, _GROUPS)]
        tasks = [Task(n, f"{n:05d}", span) for n, span in enumerate(spans)]
        results = job.run(folder, tasks, "Read the lock", "samples", ReadLock(lock.path))
        result = StageResult()
        result.add_results(results, [SAMPLES_STEP, PAIRS_STEP])
        if lock.notes.queries is not None:
            with atomic_path(folder / QUERY_COUNTS_FILE) as path:
                copy_file(queries_file(as_path(lock.path)), path)
            result.files.append(file_entry(folder, folder / QUERY_COUNTS_FILE))
        result.extra = {"dataset": lock.notes.dataset, "cap": lock.notes.cap}
        return result


def lineage(lock: Lock) -> list[StageManifest]:
    """Return a manifest per step that made a locked dataset, with settings and notes, for the history of what follows.

    They have no funnel, which counted other rows; fetch and shard run again.
    """
    found = []
    for name, settings in lock.notes.recipe.items():
        stage = lock.notes.steps.get(name, {}).get("stage", name)
        if stage not in ("fetch", "shard", "card"):
            step = "" if name == stage else name
            extra = lock.notes.notes.get(name, {})
            held = dict(settings or {})
            found.append(
                StageManifest(stage=stage, step=step, version=0, settings=held, files=[], funnel=[], extra=extra)
            )
    return found


def inputs_here(lock: Lock) -> int:
    """Return the number of samples whose image lies in an input file that can be read here."""
    table = lock.columns(["has_bytes", "archives"])
    stored = [row["archives"][0] for row in table.to_pylist() if row["has_bytes"]]
    here = {archive: is_here(archive) for archive in set(stored)}
    return sum(here[archive] for archive in stored)


def is_here(archive: str) -> bool:
    """Return whether an input file of the build can be read: it is a URL, or lies on this machine."""
    return is_remote(archive) or os.path.exists(archive)


class ReadLock(FileTask[Groups]):
    """Write the pairs of some row groups of a lock as SELECTED."""

    def __init__(self, lock: str) -> None:
        self.lock = lock

    def run(self, task: Task[Groups], folder: Path, stats: TaskStats) -> list[Path]:
        span = task.payload
        with pq.ParquetFile(cached(as_path(self.lock))) as file:
            rows = file.read_row_groups(list(range(span.first, span.end))).to_pylist()
        here: dict[str, bool] = {}
        pairs: list[dict[str, Any]] = []
        drops: list[dict[str, Any]] = []
        for row in rows:
            archive = row["archives"][0]
            stats.enter(SAMPLES_STEP)
            stats.enter(PAIRS_STEP, len(row["texts"]))
            if row["has_bytes"] and not here.setdefault(archive, is_here(archive)):
                stats.drop(SAMPLES_STEP, INPUT_NOT_HERE)
                stats.drop(PAIRS_STEP, INPUT_NOT_HERE, len(row["texts"]))
                detail = f"{archive}, row {row['record_offsets'][0]}"
                texts = zip(row["pair_ids"], row["texts"], strict=True)
                drops += [
                    {"pair_id": i, "url": row["url"], "text": t, "reason": str(INPUT_NOT_HERE), "detail": detail}
                    for i, t in texts
                ]
            else:
                stats.leave(SAMPLES_STEP)
                stats.leave(PAIRS_STEP, len(row["texts"]))
                pairs += _pairs(row)
        paths = [folder / "selected" / f"{task.name}.parquet", folder / "drops" / f"{task.name}.parquet"]
        pairs.sort(key=lambda pair: pair["host_bucket"])
        SELECTED.write(paths[0], pa.Table.from_pylist(pairs, schema=SELECTED.arrow), row_group_size=_ROW_GROUP)
        DROPS.write(paths[1], pa.Table.from_pylist(drops, schema=DROPS.arrow))
        stats.tick(len(rows), 1.0)
        return paths


def _pairs(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of SELECTED of one sample: where its image is is that of its first text."""
    bucket = host_bucket(row["url"], row["has_bytes"], row["archives"][0], row["record_offsets"][0])
    whole = {
        "url": row["url"],
        "image_source": "lock",
        "split": row["split"],
        "has_bytes": row["has_bytes"],
        "host_bucket": bucket,
    }
    by_text = zip(*(row[name] for name in _BY_TEXT), strict=True)
    return [{**whole, **dict(zip(_BY_TEXT.values(), values, strict=True))} for values in by_text]


def lock_pairs(lock: Lock) -> tuple[pa.Array, np.ndarray]:
    """Return the id of every pair of a lock, fixed-size binary (P,), and the row of its sample, int64 (P,)."""
    ids = lock.columns(["pair_ids"]).column("pair_ids").combine_chunks()
    lengths = np.diff(ids.offsets.to_numpy())
    return ids.flatten(), np.repeat(np.arange(len(ids)), lengths)

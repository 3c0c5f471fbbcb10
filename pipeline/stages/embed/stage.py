"""Embed: a vector for the image, for the caption, or for both, of every sample of a dataset.

A task embeds one shard and writes one table; a batch never reaches into the next shard, so the files are the same for
any number of workers. Memory holds a batch of images and its vectors, and the metadata and index of a shard.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openwit.pipeline.dataset.store import load_manifest, open_store
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job, StageResult
from openwit.pipeline.stages.embed.functions import EmbedFunction
from openwit.pipeline.stages.embed.reasons import NO_VECTOR
from openwit.pipeline.stages.embed.settings import EmbedSettings
from openwit.pipeline.stages.embed.shards import ShardBatch, shard_batches
from openwit.schemas.common.errors import DataError, PluginError
from openwit.schemas.common.storage.remote import is_remote
from openwit.schemas.manifest import MANIFEST_NAME, ShardEntry
from openwit.schemas.tables.candidates import DROPS
from openwit.schemas.tables.embeddings import VECTOR_COLUMNS, embeddings_of

STEP = "embed/samples"
_GROUP_ROWS = 4_096
_MOST_NAMED = 1_000


@dataclass(frozen=True)
class ShardToEmbed:
    """A shard of the dataset, as its manifest lists it (JSON)."""

    shard: str


@dataclass(frozen=True)
class Dimensions:
    """Number of dimensions by what is embedded; empty for a shard without vectors."""

    dimensions: dict[str, int] = field(default_factory=dict)


def functions_of(settings: EmbedSettings) -> dict[str, EmbedFunction]:
    """Load the functions that the settings name, by what they embed.

    Raises:
        RecipeError: one cannot be loaded or called.
    """
    named = {"images": settings.images, "texts": settings.texts}
    return {of: EmbedFunction(plugin, key=f"embed.{of}") for of, plugin in named.items() if plugin is not None}


def identity_of(dataset: str) -> str:
    """Return the sha256 of a dataset's manifest, which holds those of all its files.

    Raises:
        DataError: it is no dataset.
    """
    store = open_store(dataset)
    load_manifest(store)
    return hashlib.sha256(store.read(MANIFEST_NAME)).hexdigest()


def embed_dataset(job: Job, settings: EmbedSettings, dataset: str, folder: Path) -> StageResult:
    """Write a table of vectors for each shard of a dataset.

    Raises:
        DataError: the dataset is missing or damaged.
        PluginError: a function fails, or its vectors do not have one size.
    """
    manifest = load_manifest(open_store(dataset))
    shards = [shard for split in manifest.splits() for shard in manifest.shards_of(split)]
    tasks = [
        Task(number, f"{shard.split}-{shard.name}", ShardToEmbed(shard.model_dump_json()))
        for number, shard in enumerate(shards)
    ]
    results = job.run(folder, tasks, "Embed", "samples", EmbedShard(settings, dataset))
    result = StageResult()
    result.add_results(results, [STEP])
    sizes = {tuple(sorted(found.items())) for each in results if (found := each.extra_as(Dimensions).dimensions)}
    if len(sizes) > 1:
        raise PluginError(f"embed: the vectors of the shards have several sizes: {', '.join(map(str, sorted(sizes)))}")
    unreadable = [detail for each in results for reason, detail in each.noted if reason == NO_VECTOR]
    result.extra = {
        "dataset": dataset if is_remote(dataset) else os.path.relpath(dataset, folder),
        "functions": {of: _described(settings, of, each) for of, each in functions_of(settings).items()},
        "dimensions": dict(next(iter(sizes), ())),
        "unreadable": unreadable[:_MOST_NAMED],
    }
    return result


def _described(settings: EmbedSettings, of: str, function: EmbedFunction) -> dict[str, Any]:
    plugin = settings.images if of == "images" else settings.texts
    assert plugin is not None
    model = plugin.settings.get("model")
    return {"name": plugin.name, "identity": function.identity(), **({"model": str(model)} if model else {})}


class EmbedShard(FileTask[ShardToEmbed]):
    """Embed the samples of one shard."""

    def __init__(self, settings: EmbedSettings, dataset: str) -> None:
        self._settings, self._dataset = settings, dataset
        self._functions: dict[str, EmbedFunction] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_functions": {}}

    def setup(self) -> None:
        if not self._functions:
            self._functions = functions_of(self._settings)
            for function in self._functions.values():
                function.setup()

    def run(self, task: Task[ShardToEmbed], folder: Path, stats: TaskStats) -> list[Path]:
        self.setup()
        shard = ShardEntry.model_validate_json(task.payload.shard)
        path = folder / "embeddings" / f"{task.name}.parquet"
        drops = folder / "drops" / f"{task.name}.parquet"
        dropped: list[dict[str, Any]] = []
        stats.enter(STEP, 0)
        tables = self._tables(shard, stats, dropped)
        first = next(tables, None)
        dimensions = {} if first is None else first[1]
        stats.extra = Dimensions(dimensions)
        schema = embeddings_of(dimensions, self._settings.dtype)
        with schema.writing(path, _GROUP_ROWS) as write:
            waiting: list[pa.Table] = [] if first is None else [first[0]]
            for table, found in tables:
                if found != dimensions:
                    raise PluginError(f"embed: vectors of {shard.tar.path} have several sizes: {dimensions}, {found}")
                if sum(each.num_rows for each in waiting) >= _GROUP_ROWS:
                    write(schema.conform(pa.concat_tables(waiting)))
                    waiting = []
                waiting.append(table)
            write(schema.conform(pa.concat_tables(waiting)) if waiting else schema.empty())
        DROPS.write(drops, pa.Table.from_pylist(dropped, schema=DROPS.arrow))
        return [path, drops]

    def _tables(
        self, shard: ShardEntry, stats: TaskStats, dropped: list[dict[str, Any]]
    ) -> Iterator[tuple[pa.Table, dict[str, int]]]:
        """Yield tables of vectors, and their sizes; batches of which nothing has a vector are left out."""
        settings = self._settings
        done = 0
        for batch in shard_batches(
            open_store(self._dataset),
            shard,
            settings.batch,
            images="images" in self._functions,
            limit=settings.limit,
        ):
            vectors = self._vectors(batch, shard)
            missing = np.any([np.isnan(found).all(axis=1) for found in vectors.values()], axis=0)
            self._drop(batch.rows.filter(pa.array(missing)), stats, dropped)
            done += len(missing)
            stats.enter(STEP, len(missing))
            stats.leave(STEP, int((~missing).sum()))
            stats.tick(done, done / max(shard.samples, 1))
            if not missing.all():
                yield self._table(batch.rows, vectors, ~missing, shard.split)

    def _vectors(self, batch: ShardBatch, shard: ShardEntry) -> dict[str, np.ndarray]:
        keys = batch.rows.column("key")
        about = f"{shard.tar.path}, samples {keys[0]} to {keys[-1]}"
        given = {"images": batch.images, "texts": batch.rows.column("caption").to_pylist()}
        return {of: function.vectors(given[of], about) for of, function in self._functions.items()}

    def _table(
        self, rows: pa.Table, vectors: dict[str, np.ndarray], kept: np.ndarray, split: str
    ) -> tuple[pa.Table, dict[str, int]]:
        dimensions = {of: found.shape[1] for of, found in vectors.items()}
        held = rows.filter(pa.array(kept))
        columns: dict[str, object] = {name: held.column(name) for name in ("key", "url", "caption")}
        columns["split"] = [split] * held.num_rows
        for of, found in vectors.items():
            with np.errstate(over="ignore"):
                stored = found[kept].astype(self._settings.dtype)
            if not np.isfinite(stored).all():
                raise DataError(f"embed.{of}: float16 cannot hold the numbers of a vector: set embed.dtype to float32")
            flat = pa.array(stored.ravel())
            columns[VECTOR_COLUMNS[of]] = pa.FixedSizeListArray.from_arrays(flat, found.shape[1])
        return embeddings_of(dimensions, self._settings.dtype).table(columns), dimensions

    @staticmethod
    def _drop(rows: pa.Table, stats: TaskStats, dropped: list[dict[str, Any]]) -> None:
        for row in rows.to_pylist():
            stats.drop(STEP, NO_VECTOR)
            stats.note(NO_VECTOR, row["key"])
            facts = {"url": row["url"], "text": row["caption"], "detail": f"sample {row['key']}"}
            dropped.append({"pair_id": None, "reason": str(NO_VECTOR), **facts})

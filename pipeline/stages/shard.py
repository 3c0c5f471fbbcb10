"""Shard: surviving images become WebDataset tars in a global random order, with index, metadata and manifest.

Two file passes, memory bounded by a row group and by a shard: spill every image towards its shard, then sort and
write each shard. No image crosses a shuffle.
"""

import importlib.metadata
import json
import platform
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.columnar.stage import Job, Outcome, StageManifest, StageRecord, run_stage, stage_input
from pipeline.columnar.tables import split_by
from pipeline.columnar.tasks import PROGRESS, RECEIPTS, FileWork, Receipt, Tally, Task
from pipeline.recipe import ShardSettings
from pipeline.shards.order import sample_hashes, shard_count, shard_of
from pipeline.shards.sample import sample_json, sample_row, shard_stats
from pipeline.shards.tar_writer import TarWriter, open_tar
from pipeline.stages.carry import carry_query_counts
from schemas.atomic import atomic_path, atomic_write
from schemas.errors import UserError
from schemas.images import IMAGES, SURVIVORS
from schemas.manifest import DatasetManifest, FileEntry, ShardEntry
from schemas.samples import SAMPLES, SHARD_INDEX

NAME = "shard"
VERSION = 1
STEP = "shard/pairs"
SAMPLES_STEP = "shard/samples"
SPILL = ".stage/spill"
_TOOLS = ("openwit", "apache-beam", "pyarrow", "pillow", "numpy", "xxhash")


class Title(NamedTuple):
    """What a dataset is called."""

    name: str
    description: str = ""


def run(
    job: Job, settings: ShardSettings, title: Title, deduplicated: Path, folder: Path
) -> tuple[StageManifest, bool]:
    """Runs the stage on a finished dedup or redraw folder, which knows where its images lie."""
    upstream = StageManifest.load_first(deduplicated, ("dedup", "redraw"))
    fetched = deduplicated / upstream.extra["images"]
    StageManifest.load(fetched, "fetch")
    return run_stage(
        job,
        folder,
        NAME,
        VERSION,
        {**title._asdict(), **settings.model_dump(mode="json")},
        {"dedup": stage_input(deduplicated), "fetch": stage_input(fetched)},
        lambda: _body(job, settings, title, upstream, deduplicated, fetched, folder),
        [upstream],
    )


def _body(
    job: Job,
    settings: ShardSettings,
    title: Title,
    upstream: StageManifest,
    deduplicated: Path,
    fetched: Path,
    folder: Path,
) -> Outcome:
    sources = upstream.paths(deduplicated, "survivors")
    shards = _plan_shards(sources, settings.samples)
    spill_tasks = [
        Task(n, f"spill-{path.stem}", {"survivors": str(path), "images": str(fetched / "images" / path.name)})
        for n, path in enumerate(sources)
    ]
    spilled = job.run(folder, spill_tasks, "Spread images over shards", "images", SpillFile(shards, settings.seed))
    numbered = [(split, shard) for split in shards for shard in range(shards[split])]
    tasks = [
        Task(n, f"{n:05d}", {"split": split, "spills": _spills(folder, spilled, split, shard)})
        for n, (split, shard) in enumerate(numbered)
    ]
    receipts = job.run(folder, tasks, "Write shards", "samples", WriteShard())
    outcome = Outcome()
    outcome.add_receipts(receipts, [SAMPLES_STEP, STEP])
    outcome.files += carry_query_counts(deduplicated, folder)
    _write_manifest(title, upstream, settings, receipts, outcome, folder)
    for leftover in (SPILL, RECEIPTS, PROGRESS):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    return outcome


def _plan_shards(sources: list[Path], per_shard: int) -> dict[str, int]:
    """Number of shards of each split, train first. Shards are numbered through, so that a key names one sample."""
    sizes: Counter[str] = Counter()
    for path in sources:
        sizes.update(pq.read_table(path, columns=["split"]).column("split").to_pylist())
    if not sizes:
        raise UserError("no image survived to be sharded: see the drops of fetch and dedup for the reasons")
    return {split: shard_count(n, per_shard) for split, n in sorted(sizes.items(), key=_train_first)}


def _train_first(item: tuple[str, int]) -> tuple[bool, str]:
    return item[0] != "train", item[0]


_SPILLED = pa.schema(
    [*SURVIVORS.arrow, IMAGES.arrow.field("image"), pa.field("order", pa.uint64()), pa.field("shard", pa.int64())]
)


class SpillFile(FileWork):
    """Writes the images of one file as Arrow batches, each for one shard: what a shard reads is contiguous."""

    def __init__(self, shards: dict[str, int], seed: int) -> None:
        self.shards = shards
        self.seed = seed

    def do(self, task: Task, folder: Path, tally: Tally) -> list[Path]:
        survivors = SURVIVORS.read(Path(task.payload["survivors"]))
        target = folder / SPILL / f"{task.name}.arrow"
        batches: list[list[Any]] = []
        with (
            atomic_path(target) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, _SPILLED) as writer,
        ):
            for split, shard, rows in self._parts(survivors, Path(task.payload["images"])):
                for batch in rows.combine_chunks().to_batches():
                    writer.write_batch(batch)
                    batches.append([split, shard])
                tally.tick(rows.num_rows)
        tally.extra["batches"] = batches
        return [target]

    def _parts(self, survivors: pa.Table, images: Path) -> Iterator[tuple[str, int, pa.Table]]:
        splits = survivors.column("split").to_pylist()
        hashes = sample_hashes(survivors.column("url").to_pylist(), self.seed)
        shard = np.zeros(len(splits), np.int64)
        for split, count in self.shards.items():
            mine = np.array([s == split for s in splits], bool)
            shard[mine] = shard_of(hashes[mine], count)
        survivors = survivors.append_column("order", pa.array(hashes)).append_column("shard", pa.array(shard))
        rows = survivors.column("source_row").to_numpy()
        names = sorted(self.shards)
        keys = np.array([names.index(s) for s in splits], np.int64) << 32 | shard
        first = 0
        for group in IMAGES.read_batches(images):
            here = np.flatnonzero((rows >= first) & (rows < first + group.num_rows))
            part = survivors.take(pa.array(here))
            image = group.column("image").take(pa.array(rows[here] - first))
            part = part.append_column("image", image).select(_SPILLED.names)
            for key, piece in split_by(part, keys[here]):
                yield names[key >> 32], key & 0xFFFFFFFF, piece.cast(_SPILLED)
            first += group.num_rows


def _spills(folder: Path, spilled: list[Receipt], split: str, shard: int) -> list[tuple[str, list[int]]]:
    """Where the images of a shard lie: (spill file, numbers of its batches)."""
    found = []
    for receipt in spilled:
        numbers = [n for n, batch in enumerate(receipt.extra["batches"]) if batch == [split, shard]]
        if numbers:
            found.append((str(folder / receipt.files[0]["path"]), numbers))
    return found


class WriteShard(FileWork):
    """Gathers, sorts and writes one shard and the files beside it."""

    def do(self, task: Task, folder: Path, tally: Tally) -> list[Path]:
        split, number = task.payload["split"], task.number
        rows = self._gather(task.payload["spills"])
        base = folder / split / f"{number:05d}"
        samples, index = self._write_tar(base.with_suffix(".tar"), number, rows, tally)
        SAMPLES.write(base.with_suffix(".parquet"), pa.Table.from_pylist(samples, schema=SAMPLES.arrow))
        with atomic_path(base.with_suffix(".idx.arrow")) as path, pa.OSFile(str(path), "wb") as sink:
            table = SHARD_INDEX.table({c: [row[c] for row in index] for c in SHARD_INDEX.arrow.names})
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        stats = base.with_name(f"{base.name}_stats.json")
        atomic_write(stats, json.dumps(shard_stats(len(samples)), indent=1) + "\n")
        pairs = sum(len(sample["texts"]) for sample in samples)
        for step, n in ((SAMPLES_STEP, len(samples)), (STEP, pairs)):
            tally.enter(step, n)
            tally.leave(step, n)
        tally.extra = {"split": split, "samples": len(samples), "pairs": pairs}
        return [base.with_suffix(".tar"), base.with_suffix(".parquet"), base.with_suffix(".idx.arrow"), stats]

    @staticmethod
    def _gather(spills: list[tuple[str, list[int]]]) -> pa.Table:
        parts = []
        for path, numbers in spills:
            reader = pa.ipc.open_file(pa.memory_map(path))
            parts += [reader.get_batch(number) for number in numbers]
        table = pa.Table.from_batches(parts, schema=_SPILLED)
        return table.sort_by([("order", "ascending"), ("url", "ascending")])

    @staticmethod
    def _write_tar(
        target: Path, number: int, rows: pa.Table, tally: Tally
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        samples, index = [], []
        metadata = rows.drop_columns(["image"])
        with atomic_path(target) as temporary, open_tar(temporary) as file:
            tar = TarWriter(file)
            for position, survivor in enumerate(metadata.to_pylist()):
                sample = sample_row(f"{number:05d}{position:05d}", survivor)
                entry: dict[str, Any] = {"key": sample["key"]}
                members = (
                    ("image", "jpg", memoryview(rows.column("image")[position].as_buffer())),
                    ("text", "txt", sample["caption"].encode()),
                    ("json", "json", sample_json(sample)),
                )
                for member, extension, data in members:
                    offset, size = tar.add(f"{sample['key']}.{extension}", data)
                    entry[f"{member}_offset"], entry[f"{member}_size"] = offset, size
                samples.append(sample)
                index.append(entry)
                tally.tick(position + 1, (position + 1) / rows.num_rows)
            tar.close()
        return samples, index


def _write_manifest(
    title: Title,
    upstream: StageManifest,
    settings: ShardSettings,
    receipts: list[Receipt],
    outcome: Outcome,
    folder: Path,
) -> None:
    history: list[StageRecord] = [*upstream.history, upstream.record()]
    recipe = {record.stage: record.settings for record in history} | {NAME: settings.model_dump(mode="json")}
    manifest = DatasetManifest(
        name=title.name,
        description=title.description,
        recipe=recipe,
        tools={"python": platform.python_version(), **{tool: importlib.metadata.version(tool) for tool in _TOOLS}},
        funnel=[step for record in history for step in record.funnel] + outcome.funnel,
        notes={record.stage: {**record.extra, **record.counters} for record in history},
        shards=[_shard_entry(receipt) for receipt in receipts],
    )
    manifest.save(folder)


def _shard_entry(receipt: Receipt) -> ShardEntry:
    tar, metadata, index, stats = (FileEntry(**entry) for entry in receipt.files)
    return ShardEntry(
        name=Path(tar.path).stem,
        split=receipt.extra["split"],
        samples=receipt.extra["samples"],
        pairs=receipt.extra["pairs"],
        tar=tar,
        metadata=metadata,
        index=index,
        stats=stats,
    )

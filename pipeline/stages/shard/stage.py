"""Shard: write surviving images as tars, files or Parquet in a global random order, with index, metadata and manifest.

Two file passes, memory limited by a row group and by the metadata of a shard: spill the images of each group of files
towards their shards, then sort and write each shard. No image crosses a shuffle. A dataset behind a URL gets each
shard when it is whole; its manifest is written last, so that a reader never sees half a dataset.
"""

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

from openwit.pipeline.common.column_types import columns_of
from openwit.pipeline.dataset.layouts import check_names
from openwit.pipeline.dataset.store import LocalFolder, RemoteFolder
from openwit.pipeline.dataset.target import claim_target, close_target
from openwit.pipeline.dataset.write_shard import ShardFiles, write_shard
from openwit.pipeline.execution.exchange import grouped
from openwit.pipeline.execution.files import STAGE, checked
from openwit.pipeline.execution.jobs import FileTask, Task, TaskResult, TaskStats
from openwit.pipeline.execution.stage import CLAIM, Job, StageManifest, StageRecord, StageResult
from openwit.pipeline.execution.tasks import PROGRESS, RESULTS, read_result
from openwit.pipeline.stages import writers_of
from openwit.pipeline.stages.base import CANDIDATES, IMAGES, BuildContext, StagePaths, Upstream
from openwit.pipeline.stages.drop_examples import write_drop_examples
from openwit.pipeline.stages.shard import Shard
from openwit.pipeline.stages.shard.input_keys import check_keys, keys_of
from openwit.pipeline.stages.shard.input_order import InputOrder, inputs_named, plan_order
from openwit.pipeline.stages.shard.plan import plan_by_bytes, plan_by_samples
from openwit.pipeline.stages.shard.settings import ShardSettings
from openwit.pipeline.stages.shard.spill import read_spills, spill_sums, write_spill
from openwit.pipeline.stages.shard.written import (
    SAMPLES_STEP,
    STEP,
    ShardPlan,
    WrittenShard,
    each_once,
    entry_of,
    is_written,
    put_in,
    scratch_folder,
    written_sizes,
)
from openwit.pipeline.stages.sidecars import copy_examples, copy_query_counts, copy_rehydrated
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage.reading import remove_tree
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.common.storage_faults import storage_faults
from openwit.schemas.manifest import DatasetManifest, FileEntry, ShardFormat

SPILL = f"{STAGE}/spill"
_TOOLS = ("openwit", "apache-beam", "pyarrow", "pillow", "numpy", "xxhash", "msgspec")


def images_folder(survivors: Upstream) -> Path:
    """Return the folder with the image bytes of some survivors, as recorded by their stage.

    Raises:
        DataError: it is not a finished folder of images.
    """
    folder: Path = survivors.folder / survivors.stage_manifest().extra["images"]
    StageManifest.load_any(folder, [stage.name for stage in writers_of(IMAGES)])
    return folder


@dataclass(frozen=True)
class SpillInput:
    """A group of files of SURVIVORS, each with the file of IMAGES that has their bytes."""

    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SpillContents:
    """The checksums of the two files of a spill, by name."""

    sums: dict[str, str]


class ShardJob:
    """One run of the stage.

    Args:
        survivors: the images of the dataset.
        folder: the dataset; with a target the folder for work, which keeps the results of tasks but no shard.
        build: name of the dataset, and its URL if it is written elsewhere.
    """

    def __init__(
        self, job: Job, settings: ShardSettings, survivors: Upstream, folder: Path, build: BuildContext
    ) -> None:
        self.job = job
        self.settings = settings
        self.build = build
        self.target = build.target
        self.upstream = survivors.stage_manifest()
        self.deduplicated = survivors.folder
        self.fetched = images_folder(survivors)
        self.folder = folder
        self.types = columns_of((record.step_name(), record.extra) for record in self.upstream.history)

    def run(self) -> StageResult:
        store: LocalFolder | RemoteFolder = LocalFolder(self.folder)
        if self.target is not None:
            store = RemoteFolder(self.target)
            claim_target(store, sha256_of(self.folder / CLAIM).encode(), may_replace=self.job.replace)
        results = self._write_shards(store, self._plan())
        result = StageResult()
        for task in results:
            result.files += each_once(task.extra_as(WrittenShard).files)
        result.add_results(results, [SAMPLES_STEP, STEP])
        carried = (copy_query_counts, copy_examples, copy_rehydrated)
        tables = [entry for carry in carried for entry in carry(self.deduplicated, self.folder)]
        before = self.build.folders or {self.upstream.step or self.upstream.stage: self.deduplicated}
        tables += write_drop_examples(before, self.folder)
        result.files += tables
        manifest = self._manifest(results, tables, result)
        manifest.save(self.folder)
        if self.target is not None:
            close_target(RemoteFolder(self.target), self.folder, tables=[entry.path for entry in tables])
        for leftover in (SPILL, RESULTS, PROGRESS):
            remove_tree(self.folder / leftover)
        return result

    def _plan(self) -> dict[str, int]:
        """Return the number of shards of each split. Shards are numbered through, so that a key names one sample."""
        sources = [checked(path) for path in self.upstream.paths(self.deduplicated, "survivors")]
        if self.settings.keys == "input":
            check_keys(sources)
        if self.settings.format == "parquet":
            check_names(self.types)
        if self.settings.bytes is not None:
            files = [(path, StagePaths(self.fetched).output(IMAGES) / path.name) for path in sources]
            shards = plan_by_bytes(files, int(self.settings.bytes), self.types)
        else:
            shards = plan_by_samples(sources, self.settings.samples or 1)
        if not shards:
            raise DataError("there is no image to write to shards: see the drop reasons of fetch and dedup")
        return shards

    def _write_shards(self, store: LocalFolder | RemoteFolder, shards: dict[str, int]) -> list[TaskResult]:
        numbered = [(split, shard) for split in shards for shard in range(shards[split])]
        names = [f"{n:05d}" for n in range(len(numbered))]
        written = written_sizes(store, self.folder)
        local = None if self.target is not None else self.folder
        whole = [is_written(self.folder, name, written, local) for name in names]
        spills = [] if all(whole) else self._spill(shards)
        tasks = [
            Task(n, name, ShardPlan(split)) for n, (name, (split, _)) in enumerate(zip(names, numbered, strict=True))
        ]
        write = WriteShard(self.target, spills, self.types, self.settings.keys == "input", form=self.settings.format)
        return self.job.run(self.folder, tasks, "Write shards", "samples", write)

    def _spill(self, shards: dict[str, int]) -> list[str]:
        """Spill every image for its shard; return the names of the spills."""
        sources = self.upstream.paths(self.deduplicated, "survivors")
        images = StagePaths(self.fetched).output(IMAGES)
        files = [(str(path), str(images / path.name)) for path in sources]
        # Not named spill-…, as earlier releases named theirs, one per file and of another form.
        tasks = [
            Task(n, f"spread-{n:05d}", SpillInput(tuple(files[group.start : group.stop])))
            for n, group in enumerate(grouped(len(files)))
        ]
        for task in tasks:
            _forget_lost_spill(self.folder, task.name)
        spill = SpillGroup(shards, self.settings.seed, self._order(sources, shards))
        self.job.run(self.folder, tasks, "Spread images over shards", "images", spill)
        return [task.name for task in tasks]

    def _order(self, sources: list[Path], shards: dict[str, int]) -> InputOrder | None:
        """Return the order of the inputs; None if the samples are shuffled."""
        if self.settings.order == "shuffled":
            return None
        records = [record for record in self.upstream.history if record.stage == CANDIDATES.name]
        settings = [each for record in records for each in (record.settings, *record.extra.get("other_settings", []))]
        return plan_order(sources, shards, inputs_named(settings))

    def _manifest(self, results: list[TaskResult], tables: list[FileEntry], result: StageResult) -> DatasetManifest:
        history: list[StageRecord] = [*self.upstream.history, self.upstream.record()]
        recipe = {record.step_name(): record.settings for record in history}
        name = self.build.step or Shard.name
        return DatasetManifest(
            name=self.build.dataset.name,
            description=self.build.dataset.description,
            recipe=recipe | {name: self.settings.model_dump(mode="json")},
            tools={"python": platform.python_version(), **{tool: importlib.metadata.version(tool) for tool in _TOOLS}},
            funnel=[step for record in history for step in record.funnel] + result.funnel,
            notes={record.step_name(): {**record.extra, **record.counters} for record in history},
            tables=tables,
            steps={name: dict(step) for name, step in self.build.steps.items()},
            shards=[entry_of(task) for task in results],
        )


def _forget_lost_spill(folder: Path, name: str) -> None:
    task_result = read_result(folder, name)
    sums = {} if task_result is None else task_result.extra_as(SpillContents).sums
    if not sums or spill_sums(folder / SPILL / name) != sums:
        (folder / RESULTS / f"{name}.json").unlink(missing_ok=True)


class SpillGroup(FileTask[SpillInput]):
    """Write the images of a group of files to a spill, where their shards read them. Spills are temporary."""

    def __init__(self, shards: dict[str, int], seed: int, order: InputOrder | None = None) -> None:
        self.shards = shards
        self.seed = seed
        self.order = order

    def run(self, task: Task[SpillInput], folder: Path, stats: TaskStats) -> list[Path]:
        base = folder / SPILL / task.name
        files = [(as_path(survivors), as_path(images)) for survivors, images in task.payload.files]
        with storage_faults(folder):
            sums = write_spill(base, files, self.shards, self.seed, stats.tick, order=self.order)
        stats.extra = SpillContents(sums)
        return []


class WriteShard(FileTask[ShardPlan]):
    """Write one shard and its sidecars, and move them to the dataset.

    Args:
        target: URL of the dataset; None if it is the stage's own folder.
        spills: names of the spills.
        types: of the columns that were kept of the inputs, by name.
        input_keys: whether samples have the keys of their inputs.
        form: how samples are stored.
    """

    def __init__(
        self,
        target: str | None,
        spills: list[str],
        types: dict[str, str] | None = None,
        input_keys: bool = False,
        *,
        form: ShardFormat = "webdataset",
    ) -> None:
        self.target = target
        self.spills = spills
        self.types = types or {}
        self.input_keys = input_keys
        self.form = form

    def run(self, task: Task[ShardPlan], folder: Path, stats: TaskStats) -> list[Path]:
        with storage_faults(folder), scratch_folder(folder) as scratch:
            written = self._write(task, folder, scratch, stats)
            entries = put_in(self.target, scratch, written.files)
        WrittenShard(task.payload.split, written.samples, written.pairs, entries).count(stats)
        return []

    def _write(self, task: Task[ShardPlan], folder: Path, scratch: Path, stats: TaskStats) -> ShardFiles:
        """Write the files below `scratch`."""
        base = scratch / task.payload.split / task.name
        survivors, images = read_spills([folder / SPILL / name for name in self.spills], task.number)
        with images:
            return write_shard(
                base,
                task.number,
                survivors=survivors,
                images=images,
                types=self.types,
                keys=keys_of(survivors) if self.input_keys else None,
                form=self.form,
                tick=lambda n, of: stats.tick(n, n / max(of, 1)),
            )

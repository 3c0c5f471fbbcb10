"""Run the stage that copies chosen samples: plan the shards, route the rows, write the shards and the manifest."""

import importlib.metadata
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from openwit.pipeline.dataset.layouts import check_names
from openwit.pipeline.dataset.store import LocalFolder, RemoteFolder
from openwit.pipeline.dataset.target import claim_target, close_target
from openwit.pipeline.execution.exchange import grouped
from openwit.pipeline.execution.files import checked, file_entry
from openwit.pipeline.execution.jobs import Task, TaskResult
from openwit.pipeline.execution.stage import CLAIM, Job, StageResult
from openwit.pipeline.execution.tasks import PROGRESS, RESULTS
from openwit.pipeline.rewriting.copying import CopyShard
from openwit.pipeline.rewriting.routing import ROUTED, Plan, QueryMatches, RouteShards, SourceGroup
from openwit.pipeline.rewriting.settings import ChooseSettings, CopySettings
from openwit.pipeline.rewriting.sources import Sources, manifests_notes
from openwit.pipeline.stages.base import BuildContext, StagePaths, Upstream
from openwit.pipeline.stages.drop_examples import DROP_EXAMPLES_FILE, examples_of
from openwit.pipeline.stages.shard.order import shard_count
from openwit.pipeline.stages.shard.written import (
    SAMPLES_STEP,
    STEP,
    ShardPlan,
    WrittenShard,
    each_once,
    entry_of,
    is_written,
    written_sizes,
)
from openwit.pipeline.stages.sidecars import EXAMPLES_FILE, QUERY_COUNTS_FILE
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError, OpenWITError
from openwit.schemas.common.storage.reading import remove_tree
from openwit.schemas.manifest import DatasetManifest, FileEntry, FunnelStep, ShardFormat
from openwit.schemas.table import TableSchema
from openwit.schemas.tables.candidates import DROP_EXAMPLES
from openwit.schemas.tables.images import DUPLICATE_EXAMPLES
from openwit.schemas.tables.queries import QUERY_COUNTS

_TOOLS = ("openwit", "pyarrow", "numpy", "xxhash", "msgspec")


class CopyJob:
    """One run of the stage.

    Args:
        chosen: the samples that are kept.
        folder: the dataset; with a target the folder for work.
        build: name of the dataset, and its URL if it is written elsewhere.
    """

    def __init__(self, job: Job, settings: CopySettings, chosen: Upstream, folder: Path, build: BuildContext) -> None:
        self.job = job
        self.settings = settings
        self.chosen = chosen
        self.folder = folder
        self.build = build
        self.upstream = chosen.stage_manifest()
        self.chosen_by = ChooseSettings.model_validate(self.upstream.settings)
        self.sources = Sources(self.chosen_by.inputs, self.chosen_by.without)
        keys = settings.keys or ("input" if len(self.sources.names) == 1 else "number")
        self.numbered = keys == "number"
        forms = {form for manifest in self.sources.manifests for form in manifest.formats()}
        self.form: ShardFormat = settings.format or (forms.pop() if len(forms) == 1 else "webdataset")

    def run(self) -> StageResult:
        """Write the dataset.

        Raises:
            DataError: an input has changed since its samples were chosen, or keys are not unique.
        """
        store: LocalFolder | RemoteFolder = LocalFolder(self.folder)
        if self.build.target is not None:
            store = RemoteFolder(self.build.target)
            claim_target(store, sha256_of(self.folder / CLAIM).encode(), may_replace=self.job.replace)
        files = self.upstream.paths(self.chosen.folder, "chosen")
        if len(files) != len(self.sources.shards):
            raise DataError("an input has changed since its samples were chosen: choose another folder for --out")
        if not self.numbered:
            self._check_keys(files)
        if self.form == "parquet":
            check_names(self.sources.types)
        plan = self._plan(files)
        groups = [
            Task(
                n,
                f"group-{n:05d}",
                SourceGroup(tuple(group), tuple(str(files[number]) for number in group)),
            )
            for n, group in enumerate(grouped(len(files)))
        ]
        routed = self.job.run(self.folder, groups, "Read metadata", "samples", RouteShards(self.chosen_by, plan))
        results = self._copy(store, plan, [task.name for task in groups])
        result = StageResult()
        for task in results:
            result.files += each_once(task.extra_as(WrittenShard).files)
        result.add_results(results, [SAMPLES_STEP, STEP])
        tables = self._tables(routed)
        result.files += tables
        self._manifest(results, tables, result).save(self.folder)
        if self.build.target is not None:
            close_target(RemoteFolder(self.build.target), self.folder, tables=[entry.path for entry in tables])
        for leftover in (ROUTED, RESULTS, PROGRESS):
            remove_tree(self.folder / leftover)
        return result

    def _check_keys(self, files: list[Path]) -> None:
        """Refuse keys that several samples have, which only several inputs can bring about.

        Raises:
            DataError: there are such.
        """
        if len(self.sources.names) == 1:
            return
        hashes = []
        for shard, path in zip(self.sources.shards, files, strict=True):
            rows = pq.read_table(checked(path), columns=["row"]).column(0)
            keys = self.sources.samples(shard).column("key").take(rows).to_pylist()
            hashes.append(np.fromiter(map(_hash, keys), np.uint64, len(keys)))
        _, counts = np.unique(np.concatenate(hashes), return_counts=True)
        twice = int((counts > 1).sum())
        if twice:
            raise DataError(f"{twice:,} keys are those of several samples of the inputs: use --keys number")

    def _plan(self, files: list[Path]) -> Plan:
        """Return the shards to write, from the number of chosen samples of each shard of the inputs."""
        totals: Counter[str] = Counter()
        weights: Counter[str] = Counter()
        starts = []
        for shard, path in zip(self.sources.shards, files, strict=True):
            rows, split = pq.read_metadata(checked(path)).num_rows, shard.entry.split
            starts.append(totals[split])
            totals[split] += rows
            weights[split] += rows * shard.entry.tar.bytes // max(shard.entry.samples, 1)
        sizes, per_shard = totals, self.settings.samples or 1
        if self.settings.bytes is not None:
            sizes, per_shard = weights, int(self.settings.bytes)
        splits = sorted((split for split, n in totals.items() if n), key=lambda name: (name != "train", name))
        shards = {split: shard_count(sizes[split], per_shard) for split in splits}
        shuffled = self.settings.order == "shuffled"
        return Plan(shards, dict(totals), tuple(starts), shuffled, self.settings.seed)

    def _copy(self, store: LocalFolder | RemoteFolder, plan: Plan, groups: list[str]) -> list[TaskResult]:
        numbered = [split for split, n in plan.shards.items() for _ in range(n)]
        tasks = [Task(n, f"{n:05d}", ShardPlan(split)) for n, split in enumerate(numbered)]
        written = written_sizes(store, self.folder)
        local = None if self.build.target is not None else self.folder
        for task in tasks:
            is_written(self.folder, task.name, written, local)  # deletes the result of a shard that is lost
        copy = CopyShard(self.chosen_by, self.build.target, groups, numbered=self.numbered, form=self.form)
        return self.job.run(self.folder, tasks, "Copy samples", "samples", copy)

    def _tables(self, routed: list[TaskResult]) -> list[FileEntry]:
        """Write the tables beside the shards: the joined query list, and examples of what was dropped."""
        kept = np.zeros(len(self.sources.queries.rows), np.int64)
        for task in routed:
            for query, n in task.extra_as(QueryMatches).matches.items():
                if query < len(kept):
                    kept[query] += n
        written = []
        queries = self.sources.queries.table(kept)
        if queries is not None:
            QUERY_COUNTS.write(self.folder / QUERY_COUNTS_FILE, queries)
            written.append(QUERY_COUNTS_FILE)
        duplicates = self._carried(EXAMPLES_FILE, DUPLICATE_EXAMPLES)
        if duplicates.num_rows:
            DUPLICATE_EXAMPLES.write(self.folder / EXAMPLES_FILE, duplicates)
            written.append(EXAMPLES_FILE)
        step = self.upstream.step or self.upstream.stage
        mine = examples_of(step, StagePaths(self.chosen.folder))
        drops = pa.concat_tables(
            [self._carried(DROP_EXAMPLES_FILE, DROP_EXAMPLES), pa.Table.from_pylist(mine, schema=DROP_EXAMPLES.arrow)]
        )
        if drops.num_rows:
            DROP_EXAMPLES.write(self.folder / DROP_EXAMPLES_FILE, drops)
            written.append(DROP_EXAMPLES_FILE)
        return [file_entry(self.folder, self.folder / name) for name in written]

    def _carried(self, name: str, schema: TableSchema) -> pa.Table:
        """Return the rows of a table beside the shards of each input; of an earlier release's table none."""
        tables = [schema.empty()]
        for store in self.sources.stores:
            if store.size(name) is not None:
                with store.open(name) as file:
                    try:
                        tables.append(schema.conform(pq.read_table(file), name))
                    except (OpenWITError, pa.ArrowException):
                        continue
        return pa.concat_tables(tables)

    def _manifest(self, results: list[TaskResult], tables: list[FileEntry], result: StageResult) -> DatasetManifest:
        held = self.sources.manifests
        recipe: dict[str, Any] = {}
        steps: dict[str, dict[str, Any]] = {}
        notes: dict[str, dict[str, Any]] = {}
        for manifest in held:
            for name, settings in manifest.recipe.items():
                recipe.setdefault(name, settings)
            for name, step in manifest.steps.items():
                steps.setdefault(name, step)
            for name, found in manifest.notes.items():
                notes.setdefault(name, found)
        record = self.upstream.record()
        mine = self.build.step or "copy"
        named = [{"input": name, **about} for name, about in manifests_notes(self.sources)]
        notes |= {record.step_name(): {**record.extra, **record.counters, "inputs": named}}
        return DatasetManifest(
            name=self.build.dataset.name,
            description=self.build.dataset.description or held[0].description,
            recipe=recipe | {record.step_name(): record.settings, mine: self.settings.model_dump(mode="json")},
            tools={"python": platform.python_version(), **{tool: importlib.metadata.version(tool) for tool in _TOOLS}},
            funnel=[*joined_funnel([manifest.funnel for manifest in held]), *record.funnel, *result.funnel],
            notes=notes,
            tables=tables,
            steps=steps | {name: dict(step) for name, step in self.build.steps.items()},
            shards=[entry_of(task) for task in results],
        )


def joined_funnel(funnels: list[list[FunnelStep]]) -> list[FunnelStep]:
    """Return the lines of several funnels, those of one stage and unit added up.

    What a funnel counts in a unit goes through a line that only another funnel has.
    """
    if len(funnels) == 1:
        return funnels[0]
    named = [_numbered(funnel) for funnel in funnels]
    order: list[tuple[str, str, int]] = []
    for lines in named:
        at = 0
        for name in lines:
            if name in order:
                at = order.index(name) + 1
            else:
                order.insert(at, name)
                at += 1
    rows: list[dict[str, int]] = [{} for _ in named]
    joined = []
    for name in order:
        rows_in = rows_out = 0
        reasons: Counter[str] = Counter()
        for lines, now in zip(named, rows, strict=True):
            line = lines.get(name)
            rows_in += now.get(name[1], 0) if line is None else line.rows_in
            rows_out += now.get(name[1], 0) if line is None else line.rows_out
            if line is not None:
                reasons.update(line.reasons)
                now[name[1]] = line.rows_out
        ordered = dict(sorted(reasons.items()))
        joined.append(FunnelStep(stage=name[0], unit=name[1], rows_in=rows_in, rows_out=rows_out, reasons=ordered))
    return joined


def _numbered(funnel: list[FunnelStep]) -> dict[tuple[str, str, int], FunnelStep]:
    """Return the lines by stage, unit and number among those of the same stage and unit."""
    seen: Counter[tuple[str, str]] = Counter()
    found = {}
    for line in funnel:
        found[(line.stage, line.unit, seen[line.stage, line.unit])] = line
        seen[line.stage, line.unit] += 1
    return found


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())

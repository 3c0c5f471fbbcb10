"""Copy chosen samples to new shards: rows are routed to their shard, and pictures are read there by their place.

No picture is decoded or crosses a shuffle. Of each shard of the inputs the metadata are read once; of its tar only the
bytes of the pictures that are kept, in the order in which they lie.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.dataset.layouts import held_bytes, laid_out
from openwit.pipeline.dataset.sample import sample_keys
from openwit.pipeline.dataset.store import LocalFolder, RemoteFolder, move_in
from openwit.pipeline.dataset.write_shard import SHARD_FILES, shard_files
from openwit.pipeline.execution.files import STAGE, checked
from openwit.pipeline.execution.jobs import FileTask, Task, TaskResult, TaskStats
from openwit.pipeline.execution.routed import RoutedWriter, read_routed
from openwit.pipeline.rewriting.choose import CHOSEN
from openwit.pipeline.rewriting.settings import ChooseSettings
from openwit.pipeline.rewriting.sources import Sources
from openwit.pipeline.stages.shard.order import sample_hashes, shard_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage.store_path import is_store
from openwit.schemas.common.storage_faults import storage_faults
from openwit.schemas.images.sniff import sniff_format
from openwit.schemas.manifest import FileEntry, ShardEntry, ShardFormat
from openwit.schemas.tables.samples import BY_TEXT, SAMPLES, image_endings

STEP = "shard/pairs"
SAMPLES_STEP = "shard/samples"
ROUTED = f"{STAGE}/routed"
_BLOCK_ROWS = 1024
_BLOCK_BYTES = 64 << 20
_JOINED_GAP = 1 << 16
"""Bytes between two pictures of a tar that are read rather than skipped."""
_PLACES = [
    pa.field("order", pa.uint64()),
    pa.field("source", pa.int32()),
    pa.field("offset", pa.int64()),
    pa.field("bytes", pa.int64()),
]
_LISTS = tuple(column.name for column in SAMPLES.columns if pa.types.is_list(column.type))


@dataclass(frozen=True)
class Plan:
    """The shards to write, and where each chosen sample goes.

    Attributes:
        shards: number of shards of each split, train first; they are numbered through.
        totals: chosen samples of each split.
        starts: chosen samples of its split before each shard of the inputs.
        shuffled: whether samples are ordered by hash of their URL.
    """

    shards: dict[str, int]
    totals: dict[str, int]
    starts: tuple[int, ...]
    shuffled: bool
    seed: int

    def destinations(self, split: str, source: int, urls: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return order and shard of the chosen samples of a shard of the inputs: uint64 (N,), int64 (N,)."""
        first = sum(
            n for name, n in self.shards.items() if list(self.shards).index(name) < list(self.shards).index(split)
        )
        if self.shuffled:
            places = sample_hashes(urls, self.seed)
            return places, first + shard_of(places, self.shards[split])
        at = self.starts[source] + np.arange(len(urls))
        return at.astype(np.uint64), first + at * self.shards[split] // self.totals[split]


@dataclass(frozen=True)
class SourceGroup:
    """Neighbouring shards of the inputs by number, each with its file of CHOSEN."""

    shards: tuple[int, ...]
    chosen: tuple[str, ...]


@dataclass(frozen=True)
class QueryMatches:
    """Pairs that match each query, by query id."""

    matches: dict[int, int]


@dataclass(frozen=True)
class NewShard:
    """A shard to write: its split."""

    split: str


@dataclass(frozen=True)
class CopiedShard:
    """A written shard: its split, counts, and files in the order of SHARD_FILES."""

    split: str
    samples: int
    pairs: int
    files: list[FileEntry]


class _OfSources:
    """Have the inputs at hand in a worker."""

    def __init__(self, settings: ChooseSettings) -> None:
        self.settings = settings

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("sources", "routed")}

    @cached_property
    def sources(self) -> Sources:
        """Return the inputs."""
        return Sources(self.settings.inputs, self.settings.without)

    @cached_property
    def routed(self) -> pa.Schema:
        """Return the schema of rows on their way to their shard."""
        return pa.schema([*(field.remove_metadata() for field in self.sources.schema.arrow), *_PLACES])


class RouteShards(_OfSources, FileTask[SourceGroup]):
    """Send the rows of chosen samples of a group of shards to the shards that are written."""

    def __init__(self, settings: ChooseSettings, plan: Plan) -> None:
        super().__init__(settings)
        self.plan = plan

    def run(self, task: Task[SourceGroup], folder: Path, stats: TaskStats) -> list[Path]:
        target = folder / ROUTED / f"{task.name}.rows"
        matches: Counter[int] = Counter()
        with storage_faults(folder), RoutedWriter(target, self.routed, sum(self.plan.shards.values())) as routed:
            for done, (number, path) in enumerate(zip(task.payload.shards, task.payload.chosen, strict=True)):
                rows, destinations = self._rows(number, Path(path))
                ids = rows.column("query_ids").combine_chunks().flatten().flatten()
                if len(ids):
                    found, counts = np.unique(ids.to_numpy(), return_counts=True)
                    matches.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
                routed.add(rows, destinations)
                stats.tick(rows.num_rows, (done + 1) / len(task.payload.shards))
        stats.extra = QueryMatches(dict(sorted(matches.items())))
        return [target]

    def _rows(self, number: int, path: Path) -> tuple[pa.Table, np.ndarray]:
        shard = self.sources.shards[number]
        chosen = CHOSEN.read(checked(path))
        if not chosen.num_rows:
            return self.routed.empty_table(), np.zeros(0, np.int64)
        places = chosen.column("row")
        samples, index = self.sources.samples(shard).take(places), self.sources.index(shard).take(places)
        if samples.column("key").to_pylist() != index.column("key").to_pylist():
            raise DataError(f"{self.sources.place_of(shard)} and its index name other samples: verify the dataset")
        samples = with_texts(samples, chosen.column("texts").to_pylist())
        for name in ("query_ids", "drawn_by"):
            at = samples.column_names.index(name)
            field = samples.schema.field(at)
            samples = samples.set_column(
                at, field, self.sources.queries.renumbered(samples.column(name), shard.dataset).cast(field.type)
            )
        order, destinations = self.plan.destinations(shard.entry.split, number, samples.column("url").to_pylist())
        columns = {name: samples.column(name) for name in samples.column_names}
        columns |= {"order": pa.array(order), "source": pa.array(np.full(len(order), number, np.int32))}
        columns |= {"offset": index.column("image_offset"), "bytes": index.column("image_size")}
        rows = pa.table({name: columns[name] for name in self.routed.names}).cast(self.routed)
        return rows, destinations


def with_texts(samples: pa.Table, kept: Sequence[list[int] | None]) -> pa.Table:
    """Return samples with some of their texts only.

    Args:
        samples: N rows of SAMPLES.
        kept: N lists of numbers of texts; None keeps all.
    """
    if all(numbers is None for numbers in kept):
        return samples
    lists = [name for name in (*_LISTS, BY_TEXT.name) if name in samples.column_names]
    for name in lists:
        values = [
            value if numbers is None or value is None else [value[at] for at in numbers]
            for value, numbers in zip(samples.column(name).to_pylist(), kept, strict=True)
        ]
        at = samples.column_names.index(name)
        samples = samples.set_column(at, samples.schema.field(at), pa.array(values, samples.schema.field(at).type))
    at = samples.column_names.index("caption")
    return samples.set_column(at, samples.schema.field(at), pc.list_element(samples.column("texts"), 0))


class CopyShard(_OfSources, FileTask[NewShard]):
    """Write one shard with its sidecars, and move it to the dataset.

    Args:
        target: URL of the dataset; None if it is the stage's own folder.
        groups: names of the tasks that routed rows.
        numbered: whether samples get keys of their own.
        form: how samples are stored.
    """

    def __init__(
        self,
        settings: ChooseSettings,
        target: str | None,
        groups: Sequence[str],
        *,
        numbered: bool,
        form: ShardFormat,
    ) -> None:
        super().__init__(settings)
        self.target = target
        self.groups = tuple(groups)
        self.numbered = numbered
        self.form = form

    def run(self, task: Task[NewShard], folder: Path, stats: TaskStats) -> list[Path]:
        with storage_faults(folder), _scratch(folder) as scratch:
            written = self._write(task, folder, scratch, stats)
        for step, n in ((SAMPLES_STEP, written.samples), (STEP, written.pairs)):
            stats.enter(step, n)
            stats.leave(step, n)
        stats.extra = written
        return []

    def _write(self, task: Task[NewShard], folder: Path, scratch: Path, stats: TaskStats) -> CopiedShard:
        parts = [read_routed(folder / ROUTED / f"{name}.rows", self.routed, task.number) for name in self.groups]
        rows = pa.concat_tables([self.routed.empty_table(), *parts])
        rows = rows.take(
            pc.sort_indices(rows, sort_keys=[("order", "ascending"), ("url", "ascending")])
        ).combine_chunks()
        samples = self.sources.schema.conform(
            rows.select(self.sources.schema.arrow.names).cast(self.sources.schema.arrow)
        )
        if self.numbered:
            keys = pa.array(sample_keys(task.number, 0, samples.num_rows), pa.string())
            samples = samples.set_column(0, samples.schema.field(0), keys)
        base = scratch / task.payload.split / task.name
        with laid_out(base, self.form) as layout:
            for first, end in _blocks(rows.column("bytes").to_numpy()):
                layout.add(samples.slice(first, end - first), self._images(rows.slice(first, end - first)))
                stats.tick(end, end / max(rows.num_rows, 1))
            laid = layout.finish()
        files = shard_files(base, self.form, samples, laid)
        entries = [
            FileEntry(path=path.relative_to(scratch).as_posix(), bytes=held_bytes(path), sha256=sha256)
            for path, sha256 in files
        ]
        if self.target is not None:
            store = RemoteFolder(self.target)
            for name in dict.fromkeys(entry.path for entry in entries):
                move_in(store, scratch / name, name)
        pairs = int(pc.sum(pc.list_value_length(samples.column("texts"))).as_py() or 0)
        return CopiedShard(task.payload.split, samples.num_rows, pairs, entries)

    def _images(self, rows: pa.Table) -> list[bytes]:
        """Return the pictures of some rows; those of one tar are read in the order in which they lie."""
        sources, offsets, sizes = (rows.column(name).to_numpy() for name in ("source", "offset", "bytes"))
        order, keys = np.lexsort((offsets, sources)), rows.column("key").to_pylist()
        endings = image_endings(rows)
        found: list[bytes] = [b""] * rows.num_rows
        for mine in np.split(order, np.flatnonzero(np.diff(sources[order])) + 1) if len(order) else ():
            shard = self.sources.shards[int(sources[mine[0]])]
            store, where = self.sources.stores[shard.dataset], shard.entry.tar.path
            if shard.entry.format == "files":
                bodies = [store.read(f"{where}/{keys[row]}.{endings[row]}") for row in mine.tolist()]
            else:
                bodies = _pieces(store, where, offsets[mine], sizes[mine])
            for row, body in zip(mine.tolist(), bodies, strict=True):
                if len(body) < sizes[row] or sniff_format(body[:64]) is None:
                    raise DataError(
                        f"{self.sources.name_of(shard)} holds no picture at byte {offsets[row]:,}, where its index "
                        "has one: verify the dataset and restore it"
                    )
                found[row] = body
        return found


def _pieces(store: Any, name: str, offsets: np.ndarray, sizes: np.ndarray) -> list[bytes]:
    """Return byte ranges of a file that are in ascending order; of a local file near ones are read together."""
    if not isinstance(store, LocalFolder):
        found: list[bytes] = store.ranges(name, offsets.tolist(), sizes.tolist())
        return found
    ends = offsets + sizes
    bodies: list[bytes] = []
    with (store.folder / name).open("rb", buffering=0) as file:
        for run in np.split(np.arange(len(offsets)), np.flatnonzero(offsets[1:] - ends[:-1] > _JOINED_GAP) + 1):
            start = int(offsets[run[0]])
            file.seek(start)
            data = file.read(int(ends[run[-1]]) - start)
            bodies += [data[int(offsets[at]) - start : int(ends[at]) - start] for at in run]
    return bodies


def _blocks(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the blocks in which samples are copied, of limited rows and bytes: first, and end."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        limit = ends[first] - sizes[first] + _BLOCK_BYTES
        end = min(max(int(np.searchsorted(ends, limit, "right")), first + 1), first + _BLOCK_ROWS)
        end = min(end, len(sizes))
        yield first, end
        first = end


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Yield the folder in which files are written: the stage's own, or one of this machine if that lies in a store."""
    if not is_store(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="openwit-") as scratch:
        yield Path(scratch)


def entry_of(result: TaskResult) -> ShardEntry:
    """Return the manifest's entry of a shard that a task wrote."""
    shard = result.extra_as(CopiedShard)
    files: dict[str, Any] = dict(zip(SHARD_FILES, shard.files, strict=True))
    return ShardEntry(name=result.task, split=shard.split, samples=shard.samples, pairs=shard.pairs, **files)

"""Route the rows of chosen samples to the shards that are written, each with the place of its picture."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.execution.files import STAGE, checked
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.routed import RoutedWriter
from openwit.pipeline.rewriting.choose import CHOSEN
from openwit.pipeline.rewriting.settings import ChooseSettings
from openwit.pipeline.rewriting.sources import Sources
from openwit.pipeline.stages.shard.order import sample_hashes, shard_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage_faults import storage_faults
from openwit.schemas.tables.samples import BY_TEXT, SAMPLES

ROUTED = f"{STAGE}/routed"
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


class OfSources:
    """Open the inputs once in a worker, and not where the task is made."""

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


class RouteShards(OfSources, FileTask[SourceGroup]):
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

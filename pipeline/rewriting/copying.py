"""Copy chosen samples to new shards: rows are routed to their shard, and pictures are read there by their place.

No picture is decoded or crosses a shuffle. Of each shard of the inputs the metadata are read once; of its tar only the
bytes of the pictures that are kept, in the order in which they lie.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.dataset.layouts import laid_out
from openwit.pipeline.dataset.sample import sample_keys
from openwit.pipeline.dataset.store import LocalFolder
from openwit.pipeline.dataset.write_shard import shard_files
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.routed import read_routed
from openwit.pipeline.rewriting.routing import ROUTED, OfSources
from openwit.pipeline.rewriting.settings import ChooseSettings
from openwit.pipeline.stages.shard.written import ShardPlan, WrittenShard, put_in, scratch_folder
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage_faults import storage_faults
from openwit.schemas.images.sniff import sniff_format
from openwit.schemas.manifest import ShardFormat
from openwit.schemas.tables.samples import image_endings

_BLOCK_ROWS = 1024
_BLOCK_BYTES = 64 << 20
_JOINED_GAP = 1 << 16
"""Bytes between two pictures of a tar that are read rather than skipped."""


class CopyShard(OfSources, FileTask[ShardPlan]):
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

    def run(self, task: Task[ShardPlan], folder: Path, stats: TaskStats) -> list[Path]:
        with storage_faults(folder), scratch_folder(folder) as scratch:
            written = self._write(task, folder, scratch, stats)
        written.count(stats)
        return []

    def _write(self, task: Task[ShardPlan], folder: Path, scratch: Path, stats: TaskStats) -> WrittenShard:
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
        entries = put_in(self.target, scratch, files)
        pairs = int(pc.sum(pc.list_value_length(samples.column("texts"))).as_py() or 0)
        return WrittenShard(task.payload.split, samples.num_rows, pairs, entries)

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

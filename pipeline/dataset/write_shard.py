"""Write one shard: its samples, and its sidecar files with metadata, index of byte ranges, and statistics."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.dataset.layouts import EXTENSIONS, Images, Laid, laid_out, payload_path, sample_members
from openwit.pipeline.dataset.sample import sample_keys, sample_rows, shard_stats
from openwit.pipeline.dataset.tar_writer import TarWriter
from openwit.schemas.common.atomic import atomic_path, atomic_write, sha256_of
from openwit.schemas.manifest import ShardFormat
from openwit.schemas.tables.samples import SAMPLES, SHARD_INDEX

SHARD_FILES = ("tar", "index", "stats", "metadata")
"""Manifest names of the files that `write_shard` writes, in the order in which they are written."""
_NO_TYPES: Mapping[str, str] = MappingProxyType({})
_BLOCK_ROWS = 1024
_BLOCK_BYTES = 64 << 20
"""Images held in memory at a time."""


class ImageSource(Protocol):
    """Images in the order of a shard, read block by block.

    Attributes:
        sizes: int64 (N,), their bytes.
    """

    sizes: np.ndarray

    def read(self, first: int, end: int) -> Sequence[bytes | memoryview]:
        """Return the images of some neighbouring rows."""
        ...


class HeldImages:
    """Images that are in memory, as an `ImageSource`."""

    def __init__(self, images: Sequence[bytes | memoryview]) -> None:
        self._images = images
        self.sizes = np.fromiter(map(len, images), np.int64, len(images))

    def read(self, first: int, end: int) -> Sequence[bytes | memoryview]:
        """See `ImageSource`."""
        return self._images[first:end]


class ShardFiles(NamedTuple):
    """A finished shard: its files (as in SHARD_FILES) with their sha256, and its counts."""

    files: list[tuple[Path, str]]
    samples: int
    pairs: int


def write_shard(
    base: Path,
    number: int,
    *,
    survivors: pa.Table,
    images: ImageSource,
    types: Mapping[str, str] = _NO_TYPES,
    keys: Sequence[str] | None = None,
    form: ShardFormat = "webdataset",
    tick: Callable[[int, int], None] = lambda _done, _of: None,
) -> ShardFiles:
    """Write the samples of the shard BASE and its sidecar files, each file whole or not at all.

    Args:
        number: of the shard, for the keys.
        survivors: rows of openwit.schemas.tables.images.SURVIVORS, N.
        images: N files.
        types: of the columns that were kept of the inputs, by name.
        keys: of the samples, N; None numbers them.
        form: see `openwit.pipeline.dataset.layouts`.
        tick: called with samples done and the total number of samples.
    """
    samples = []
    with laid_out(base, form) as layout:
        for first, end in _blocks(images.sizes):
            part = survivors.slice(first, end - first)
            named = sample_keys(number, first, part.num_rows) if keys is None else list(keys[first:end])
            rows = sample_rows(named, part, types)
            layout.add(rows, images.read(first, end))
            samples.append(rows)
            tick(first + part.num_rows, survivors.num_rows)
        laid = layout.finish()
    table = pa.concat_tables(samples) if samples else SAMPLES.empty()
    files = shard_files(base, form, table, laid)
    pairs = int(pc.sum(pc.list_value_length(table.column("texts"))).as_py() or 0)
    return ShardFiles(files, table.num_rows, pairs)


def _blocks(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the blocks in which samples are written, of limited rows and bytes: first, and end."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        limit = ends[first] - sizes[first] + _BLOCK_BYTES
        end = min(max(int(np.searchsorted(ends, limit, "right")), first + 1), first + _BLOCK_ROWS)
        yield first, end
        first = end


def add_samples(writer: TarWriter, rows: pa.Table, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Add samples to a tar, with adjacent members; return their offsets and sizes, int64 (N, 3) each.

    Args:
        rows: of openwit.schemas.tables.samples.SAMPLES, N.
        images: N files.
    """
    offsets, sizes = writer.add(*sample_members(rows, images))
    return offsets.reshape(-1, 3), sizes.reshape(-1, 3)


def write_sidecars(
    base: Path, samples: pa.Table, *, offsets: np.ndarray, sizes: np.ndarray, form: ShardFormat = "webdataset"
) -> list[tuple[Path, str]]:
    """Write the index, statistics and metadata of a shard; return their paths with their sha256.

    In the format parquet the metadata are in the table of the samples: the index and the statistics are all.

    Args:
        samples: rows of openwit.schemas.tables.samples.SAMPLES, N.
        offsets, sizes: of their members as stored, int64 (N, 3).
    """
    index, stats, metadata = (
        base.with_suffix(".idx.arrow"),
        base.with_name(f"{base.name}_stats.json"),
        base.with_suffix(".parquet"),
    )
    columns: dict[str, object] = {"key": samples.column("key")}
    for n, member in enumerate(EXTENSIONS):
        columns[f"{member}_offset"] = pa.array(offsets[:, n])
        columns[f"{member}_size"] = pa.array(sizes[:, n])
    table = SHARD_INDEX.table(columns).combine_chunks()
    with atomic_path(index) as path, pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    atomic_write(stats, json.dumps(shard_stats(samples.num_rows), indent=1) + "\n")
    if form == "parquet":
        return [(path, sha256_of(path)) for path in (index, stats)]
    SAMPLES.like(samples.schema).write(metadata, samples.combine_chunks())
    return [(path, sha256_of(path)) for path in (index, stats, metadata)]


def shard_files(base: Path, form: ShardFormat, samples: pa.Table, laid: Laid) -> list[tuple[Path, str]]:
    """Write the sidecar files of a shard whose samples are stored; return all its files, in order of SHARD_FILES."""
    stored = (payload_path(base, form), laid.sha256)
    beside = write_sidecars(base, samples, offsets=laid.offsets, sizes=laid.sizes, form=form)
    return [stored, *beside, *([stored] if form == "parquet" else [])]

"""Write one shard: the tar, and its sidecar files with metadata, index of byte ranges, and statistics."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.dataset.sample import sample_documents, sample_keys, sample_rows, shard_stats
from openwit.pipeline.dataset.tar_writer import TarWriter
from openwit.schemas.common.atomic import atomic_path, atomic_write, sha256_of
from openwit.schemas.tables.samples import SAMPLES, SHARD_INDEX

EXTENSIONS = {"image": "jpg", "text": "txt", "json": "json"}
"""Extensions of a sample's members in the tar, in their order."""
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
    tick: Callable[[int, int], None] = lambda _done, _of: None,
) -> ShardFiles:
    """Write BASE.tar and its sidecar files, each whole or not at all.

    Args:
        number: of the shard, for the keys.
        survivors: rows of openwit.schemas.tables.images.SURVIVORS, N.
        images: N JPEGs.
        types: of the columns that were kept of the inputs, by name.
        keys: of the samples, N; None numbers them.
        tick: called with samples done and the total number of samples.
    """
    tar = base.with_suffix(".tar")
    samples, offsets, sizes = [], [], []
    with atomic_path(tar) as temporary, temporary.open("wb", buffering=0) as file:
        digest = hashlib.sha256()
        writer = TarWriter(file, digest)
        for first, end in _blocks(images.sizes):
            part = survivors.slice(first, end - first)
            named = sample_keys(number, first, part.num_rows) if keys is None else list(keys[first:end])
            rows = sample_rows(named, part, types)
            at, size = add_samples(writer, rows, images.read(first, end))
            samples.append(rows)
            offsets.append(at)
            sizes.append(size)
            tick(first + part.num_rows, survivors.num_rows)
        writer.close()
    table = pa.concat_tables(samples) if samples else SAMPLES.empty()
    beside = write_sidecars(base, table, offsets=_joined(offsets), sizes=_joined(sizes))
    pairs = int(pc.sum(pc.list_value_length(table.column("texts"))).as_py() or 0)
    return ShardFiles([(tar, digest.hexdigest()), *beside], table.num_rows, pairs)


def _blocks(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the blocks in which samples are written, of limited rows and bytes: first, and end."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        limit = ends[first] - sizes[first] + _BLOCK_BYTES
        end = min(max(int(np.searchsorted(ends, limit, "right")), first + 1), first + _BLOCK_ROWS)
        yield first, end
        first = end


def add_samples(
    writer: TarWriter, rows: pa.Table, images: Sequence[bytes | memoryview]
) -> tuple[np.ndarray, np.ndarray]:
    """Add samples to a tar, with adjacent members; return their offsets and sizes, int64 (N, 3) each.

    Args:
        rows: of openwit.schemas.tables.samples.SAMPLES, N.
        images: N JPEGs.
    """
    keys = rows.column("key").to_pylist()
    texts = [caption.encode() for caption in rows.column("caption").to_pylist()]
    names = [f"{key}.{extension}" for key in keys for extension in EXTENSIONS.values()]
    bodies = [part for sample in zip(images, texts, sample_documents(rows), strict=True) for part in sample]
    offsets, sizes = writer.add(names, bodies)
    return offsets.reshape(-1, 3), sizes.reshape(-1, 3)


def write_sidecars(base: Path, samples: pa.Table, *, offsets: np.ndarray, sizes: np.ndarray) -> list[tuple[Path, str]]:
    """Write the index, statistics and metadata of a shard; return their paths with their sha256.

    Args:
        samples: rows of openwit.schemas.tables.samples.SAMPLES, N.
        offsets, sizes: of their members in the tar, int64 (N, 3).
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
    SAMPLES.like(samples.schema).write(metadata, samples.combine_chunks())
    return [(path, sha256_of(path)) for path in (index, stats, metadata)]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros((0, len(EXTENSIONS)), np.int64)

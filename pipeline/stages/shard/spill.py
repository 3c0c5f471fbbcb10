"""Route images to shards through spill files: a flat byte file and an offset table.

Image bytes are copied once from the Parquet files to a flat file; a shard maps those files into memory and reads its
own images. The table is sorted by shard, so that a shard reads one slice of it.
"""

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from openwit.pipeline.stages.shard.order import sample_hashes, shard_of
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import SchemaError
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.images import IMAGES, SURVIVORS

SPILL_SCHEMA = pa.schema(
    [*SURVIVORS.arrow, pa.field("order", pa.uint64()), pa.field("start", pa.int64()), pa.field("bytes", pa.int64())]
)


_CHUNK = 1 << 20


class Slice(NamedTuple):
    """Rows of a spilled table that belong to one shard."""

    split: str
    shard: int
    first: int
    rows: int


def write_spill(base: Path, survivors: Path, images: Path, shards: dict[str, int], seed: int) -> list[Slice]:
    """Write BASE.images and BASE.arrow for one file of survivors; return the slice of the table per shard.

    Args:
        survivors, images: files of schemas.tables.images.SURVIVORS and IMAGES, row numbers of one into the other.
        shards: number of shards of each split.
    """
    table = SURVIVORS.read(survivors)
    with atomic_path(base.with_suffix(".images")) as path, path.open("wb") as file:
        starts, sizes = _copy_images(images, table.column("source_row").to_numpy(), file)
    splits = np.array(table.column("split").to_pylist(), object)
    hashes = sample_hashes(table.column("url").to_pylist(), seed)
    names = sorted(shards)
    keys = np.zeros(table.num_rows, np.int64)
    for number, name in enumerate(names):
        mine = splits == name
        keys[mine] = number << 32 | shard_of(hashes[mine], shards[name])
    columns = {"order": hashes, "start": starts, "bytes": sizes}
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    order = np.argsort(keys, kind="stable")
    with (
        atomic_path(base.with_suffix(".arrow")) as path,
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, SPILL_SCHEMA) as writer,
    ):
        writer.write_table(table.take(pa.array(order)).cast(SPILL_SCHEMA))
    found, first, rows = np.unique(keys[order], return_index=True, return_counts=True)
    cuts = zip(found.tolist(), first.tolist(), rows.tolist(), strict=True)
    return [Slice(names[key >> 32], key & 0xFFFFFFFF, start, n) for key, start, n in cuts]


def _copy_images(images: Path, rows: np.ndarray, file: BinaryIO) -> tuple[np.ndarray, np.ndarray]:
    """Copy the images of some rows; return where each begins and its size, int64 (N,) each.

    Args:
        rows: int64 (N,), each row once, in any order.
    """
    starts, sizes = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    first = position = 0
    for column in _image_column(images):
        here = np.flatnonzero((rows >= first) & (rows < first + len(column)))
        for chunk in column.take(pa.array(rows[here] - first)).chunks:
            offsets = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
            mine, here = here[: len(chunk)], here[len(chunk) :]
            sizes[mine] = np.diff(offsets)
            starts[mine] = position + offsets[:-1] - offsets[0]
            file.write(chunk.buffers()[2][int(offsets[0]) : int(offsets[-1])] if len(chunk) else b"")
            position += int(offsets[-1] - offsets[0])
        first += len(column)
    return starts, sizes


def _image_column(images: Path) -> Iterator[pa.ChunkedArray]:
    """Yield the images of a file of IMAGES per row group; other columns are not read.

    Raises:
        SchemaError: it is not such a file.
    """
    try:
        file = pq.ParquetFile(cached(images))
    except (OSError, pa.ArrowInvalid) as error:
        raise SchemaError(f"{images} is not a readable Parquet file: {error}") from error
    if IMAGES.arrow.field("image") != file.schema_arrow.field("image"):
        raise SchemaError(f"{images} holds no table {IMAGES.name!r}: run the stage fetch again")
    for group in range(file.num_row_groups):
        yield file.read_row_group(group, columns=["image"]).column("image")


@contextmanager
def read_spills(slices: Sequence[Sequence[Any]]) -> Iterator[tuple[pa.Table, list[memoryview]]]:
    """Yield the samples of one shard in its order: rows of SURVIVORS, and each one's image.

    Args:
        slices: (base path of a spill, first row, rows).
    """
    maps = [_Mapped(as_path(base).with_suffix(".images")) for base, _, _ in slices]
    try:
        parts, owners = [], []
        for number, (base, first, rows) in enumerate(slices):
            with pa.memory_map(str(cached(as_path(base).with_suffix(".arrow")))) as source:
                parts.append(pa.ipc.open_file(source).read_all().slice(first, rows))
            owners.append(np.full(rows, number))
        table = pa.concat_tables(parts)
        order = pc.sort_indices(table, sort_keys=[("order", "ascending"), ("url", "ascending")])
        owner = np.concatenate(owners)[order.to_numpy()].tolist()
        table = table.take(order).combine_chunks()
        starts, sizes = table.column("start").to_pylist(), table.column("bytes").to_pylist()
        images = [maps[o].view[start : start + size] for o, start, size in zip(owner, starts, sizes, strict=True)]
        yield table.select(SURVIVORS.arrow.names), images
    finally:
        images = []
        for mapped in maps:
            mapped.close()


def fast_sum(path: Path) -> str:
    """Return a checksum that notices damage, at ten times the speed of sha256; "" if there is no file."""
    digest = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


class _Mapped:
    """Map a file into memory; an empty one, which cannot be mapped, becomes no bytes."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else None
        self.view = memoryview(self._map if self._map is not None else b"")

    def close(self) -> None:
        """Release the mapping; it is freed with the last view of it."""
        self.view = memoryview(b"")
        self._map = None

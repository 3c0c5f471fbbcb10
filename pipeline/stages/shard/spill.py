"""Spill images towards their shards: per group of files one file of image bytes, and one of rows sorted by shard.

Image bytes are copied once from the Parquet files to a flat file, in runs that are sorted by shard and by their order
in it. A shard reads its rows of each group (see `openwit.pipeline.execution.routed`), and its images block by block
from one file at a time. There are at most `exchange.MAX_GROUPS` groups: what a shard opens does not grow with the
number of files.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from openwit.pipeline.execution.files import checked
from openwit.pipeline.execution.routed import RoutedWriter, read_range, read_routed
from openwit.pipeline.stages.shard.input_order import InputOrder
from openwit.pipeline.stages.shard.order import sample_hashes, shard_of
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import SchemaError
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.tables.images import IMAGES, SURVIVORS

SPILL_SCHEMA = pa.schema(
    [*SURVIVORS.arrow, pa.field("order", pa.uint64()), pa.field("start", pa.int64()), pa.field("bytes", pa.int64())]
)
SUFFIXES = (".images", ".rows")
"""Of the two files of a spill."""

_CHUNK = 1 << 20
_RUN_BYTES = 64 << 20
"""Images held in memory before they are sorted and written."""
_OPEN_FILES = 32
"""Files of images that a shard keeps open."""


def write_spill(
    base: Path,
    files: Sequence[tuple[Path, Path]],
    shards: Mapping[str, int],
    seed: int,
    tick: Callable[[int, float], None] = lambda _rows, _fraction: None,
    *,
    order: InputOrder | None = None,
) -> dict[str, str]:
    """Write BASE.images and BASE.rows for a group of files; return their checksums, as `spill_sums` does.

    Args:
        files: of schemas.tables.images.SURVIVORS and IMAGES, row numbers of one into the other.
        shards: number of shards of each split; they are numbered through, in this order.
        tick: called with rows and the fraction of the files that are done.
        order: of the inputs, if the samples keep it.
    """
    images, rows = _paths(base)
    with (
        atomic_path(images) as path,
        path.open("wb") as file,
        RoutedWriter(rows, SPILL_SCHEMA, sum(shards.values())) as routed,
    ):
        spill, done = _Spill(file, routed), 0
        for number, (survivors, source) in enumerate(files):
            table = SURVIVORS.read(survivors)
            places = sample_hashes(table.column("url").to_pylist(), seed) if order is None else order.places(table)
            table = table.append_column(SPILL_SCHEMA.field("order"), pa.array(places))
            spill.add(table, _numbers(table, places, shards, order), checked(source))
            done += table.num_rows
            tick(done, (number + 1) / len(files))
        spill.flush()
    return {images.name: spill.digest.hexdigest(), rows.name: fast_sum(rows)}


def _paths(base: Path) -> tuple[Path, Path]:
    return base.with_suffix(SUFFIXES[0]), base.with_suffix(SUFFIXES[1])


def spill_sums(base: Path) -> dict[str, str]:
    """Return the checksums of the files of a spill, by name; "" for one that is missing."""
    return {path.name: fast_sum(path) for path in _paths(base)}


def _numbers(table: pa.Table, places: np.ndarray, shards: Mapping[str, int], order: InputOrder | None) -> np.ndarray:
    """Return the number of each row's shard: int64 (N,)."""
    splits = np.array(table.column("split").to_pylist(), object)
    numbers, first = np.zeros(table.num_rows, np.int64), 0
    for split, count in shards.items():
        mine = splits == split
        numbers[mine] = first + (
            shard_of(places[mine], count) if order is None else order.shards_of(split, places[mine])
        )
        first += count
    return numbers


class _Spill:
    """Copy images to a flat file and their rows to their shards, in sorted runs of limited bytes.

    Attributes:
        digest: of the images' file so far, so that it need not be read again for its checksum.
    """

    def __init__(self, file: BinaryIO, routed: RoutedWriter) -> None:
        self._file = file
        self._routed = routed
        self._position = 0
        self.digest = xxhash.xxh3_128()
        self._clear()

    def _clear(self) -> None:
        self._rows: list[pa.Table] = []
        self._numbers: list[np.ndarray] = []
        self._images: list[pa.ChunkedArray] = []
        self._bytes = 0

    def add(self, table: pa.Table, numbers: np.ndarray, images: Path) -> None:
        """Add the rows of a file of survivors.

        Args:
            table: N survivors with their order.
            numbers: int64 (N,), of their shards.
            images: the file of their images.
        """
        source, first = table.column("source_row").to_numpy(), 0
        for column in _image_column(images):
            here = np.flatnonzero((source >= first) & (source < first + len(column)))
            if len(here):
                everything = len(here) == len(column) and bool((np.diff(source[here]) == 1).all())
                self._rows.append(table if len(here) == table.num_rows else table.take(pa.array(here)))
                self._numbers.append(numbers[here])
                self._images.append(column if everything else column.take(pa.array(source[here] - first)))
                self._bytes += self._images[-1].nbytes
            if self._bytes > _RUN_BYTES:
                self.flush()
            first += len(column)

    def flush(self) -> None:
        """Write what waits."""
        if not self._rows:
            return
        rows, numbers = pa.concat_tables(self._rows), np.concatenate(self._numbers)
        order = np.lexsort((rows.column("order").to_numpy(), numbers))
        images = pa.chunked_array([chunk for column in self._images for chunk in column.chunks])
        self._clear()
        starts, sizes = self._write(images, order)
        rows = rows.take(pa.array(order))
        rows = rows.append_column("start", pa.array(starts)).append_column("bytes", pa.array(sizes))
        self._routed.add(rows.cast(SPILL_SCHEMA), numbers[order])

    def _write(self, images: pa.ChunkedArray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Write images in an order; return where each begins and its size, int64 (N,) each."""
        views: list[memoryview] = []
        for chunk in images.chunks:
            offsets = np.frombuffer(chunk.buffers()[1], np.int32)[
                chunk.offset : chunk.offset + len(chunk) + 1
            ].tolist()
            data = memoryview(chunk.buffers()[2] or b"")
            views += [data[start:end] for start, end in itertools.pairwise(offsets)]
        sizes = np.fromiter((len(views[row]) for row in order), np.int64, len(order))
        starts = self._position + np.cumsum(sizes) - sizes
        for row in order:
            self.digest.update(views[row])
            self._file.write(views[row])
        self._position += int(sizes.sum())
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
    with file:
        if IMAGES.arrow.field("image") != file.schema_arrow.field("image"):
            raise SchemaError(f"{images} holds no table {IMAGES.name!r}: run the stage fetch again")
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=["image"]).column("image")


class SpilledImages:
    """The images of a shard, read block by block from the spills; a context manager.

    Args:
        paths: files of images.
        owner: int64 (N,), the file of each image.
        starts, sizes: int64 (N,) each.
    """

    def __init__(self, paths: Sequence[Path], owner: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> None:
        self._paths = paths
        self._owner = owner
        self._starts = starts
        self.sizes = sizes
        self._open: dict[int, BinaryIO] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def read(self, first: int, end: int) -> list[bytes | memoryview]:
        """Return the images of some neighbouring rows; each file is read once, neighbours in it together."""
        found: list[bytes | memoryview] = [b""] * (end - first)
        owner, starts, sizes = (values[first:end] for values in (self._owner, self._starts, self.sizes))
        order = np.lexsort((starts, owner))
        joined = (owner[order][1:] == owner[order][:-1]) & (starts[order][1:] == (starts + sizes)[order][:-1])
        for rows in np.split(order, np.flatnonzero(~joined) + 1) if len(order) else ():
            start, size = int(starts[rows[0]]), int(sizes[rows].sum())
            number = int(owner[rows[0]])
            data = memoryview(read_range(self._file(number), self._paths[number], start, size))
            ends = np.cumsum(sizes[rows]).tolist()
            for row, stop, length in zip(rows.tolist(), ends, sizes[rows].tolist(), strict=True):
                found[row] = data[stop - length : stop]
        return found

    def _file(self, number: int) -> BinaryIO:
        if number not in self._open:
            if len(self._open) == _OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            self._open[number] = self._paths[number].open("rb", buffering=0)
        return self._open[number]


def read_spills(bases: Sequence[Path], number: int) -> tuple[pa.Table, SpilledImages]:
    """Return the samples of one shard in its order: rows of SURVIVORS, and their images.

    Args:
        bases: of the spills.
        number: of the shard.
    """
    parts = [read_routed(_paths(base)[1], SPILL_SCHEMA, number) for base in bases]
    table = pa.concat_tables([SPILL_SCHEMA.empty_table(), *parts])
    order = pc.sort_indices(table, sort_keys=[("order", "ascending"), ("url", "ascending")])
    owner = np.repeat(np.arange(len(parts)), [part.num_rows for part in parts])[order.to_numpy()]
    table = table.take(order).combine_chunks()
    starts, sizes = table.column("start").to_numpy(), table.column("bytes").to_numpy()
    images = SpilledImages([_paths(base)[0] for base in bases], owner, starts, sizes)
    return table.select(SURVIVORS.arrow.names), images


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

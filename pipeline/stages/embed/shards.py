"""Read the images and captions of a shard of a dataset of any format, in a folder or at a URL, batch by batch."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.dataset.layouts import EXTENSIONS
from openwit.pipeline.dataset.store import DatasetStore
from openwit.schemas.common.errors import DataError
from openwit.schemas.manifest import FileEntry, ShardEntry

_COLUMNS = ["key", "url", "caption"]


class ShardBatch(NamedTuple):
    """Some samples of a shard: `key`, `url` and `caption` of each, and their images, if they are wanted."""

    rows: pa.Table
    images: list[bytes]


def shard_batches(
    store: DatasetStore, shard: ShardEntry, size: int, *, images: bool, limit: int | None
) -> Iterator[ShardBatch]:
    """Yield the samples of a shard in its order.

    Args:
        store: of the dataset.
        shard: one of its manifest.
        size: samples of a batch.
        images: read them.
        limit: number of samples, the first ones; None: all.

    Raises:
        DataError: a file is missing, or is not the one that the manifest lists.
    """
    try:
        rows = _metadata(store, shard)
        index = pa.ipc.open_file(_checked(store, shard.index)).read_all()
    except (FileNotFoundError, pa.ArrowException) as error:
        raise DataError(f"{store}: the shard {shard.tar.path} cannot be read: {error} (see `wit verify`)") from error
    if index.column("key").to_pylist() != rows.column("key").to_pylist():
        raise DataError(f"{store}: the index of {shard.tar.path} names other samples than its metadata")
    count = rows.num_rows if limit is None else min(limit, rows.num_rows)
    for start in range(0, count, size):
        length = min(size, count - start)
        yield ShardBatch(
            rows.slice(start, length), _images(store, shard, index.slice(start, length)) if images else []
        )


def _metadata(store: DatasetStore, shard: ShardEntry) -> pa.Table:
    if shard.format == "parquet":  # which has the images too: nothing else of it is read
        with store.open(shard.metadata.path) as file:
            return pq.read_table(file, columns=_COLUMNS)
    return pq.read_table(_checked(store, shard.metadata), columns=_COLUMNS)


def _checked(store: DatasetStore, entry: FileEntry) -> pa.BufferReader:
    """Return a small file after comparing it with the manifest."""
    data = store.read(entry.path)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise DataError(f"{store}/{entry.path} has changed since it was written: verify the dataset with `wit verify`")
    return pa.BufferReader(data)


def _images(store: DatasetStore, shard: ShardEntry, index: pa.Table) -> list[bytes]:
    offsets, sizes = (index.column(name).to_pylist() for name in ("image_offset", "image_size"))
    try:
        if shard.format == "files":
            names = [f"{shard.tar.path}/{key}.{EXTENSIONS['image']}" for key in index.column("key").to_pylist()]
            return [store.ranges(name, [0], [size])[0] for name, size in zip(names, sizes, strict=True)]
        return _whole(store.ranges(shard.tar.path, offsets, sizes), sizes, f"{store}/{shard.tar.path}")
    except OSError as error:
        raise DataError(f"{store}/{shard.tar.path} cannot be read: {error.strerror or error}") from error


def _whole(images: list[bytes], sizes: Sequence[int], where: str) -> list[bytes]:
    if any(len(image) != size for image, size in zip(images, sizes, strict=True)):
        raise DataError(f"{where} ends inside an image: verify the dataset with `wit verify`")
    return images

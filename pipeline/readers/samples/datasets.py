"""Read samples of finished datasets of ours, local or in a store: from their metadata and index; no tar is opened."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.common.counting import Count
from openwit.pipeline.readers.samples.sample import SIDECARS_UNUSED, Sample
from openwit.schemas.common.errors import DataError, OpenWITError, one_line
from openwit.schemas.common.storage.remote import is_remote
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest

_LISTS = ("texts", "text_sources", "languages", "page_urls", "licenses")
_COLUMNS = ("key", "url", *_LISTS)


def dataset_shards(name: str) -> list[str] | None:
    """Return the tars, tables or folders of a finished dataset by its folder or URL, in order of its manifest.

    Returns:
        None if it is none.

    Raises:
        DataError: it consists of folders and lies behind a URL.
    """
    if is_remote(name) and ("?" in name or "#" in name):
        return None
    folder = as_path(name.rstrip("/"))
    try:
        manifest = DatasetManifest.load(folder)
    except OpenWITError:
        return None
    base = name.rstrip("/")
    if "files" in manifest.formats() and is_remote(name):
        raise DataError(f"{name} has its images in files of their own, which are read from a local folder only")
    ends = {"files": "/"}
    return [f"{base}/{shard.tar.path}{ends.get(shard.format, '')}" for shard in manifest.shards]


def has_manifest(name: str) -> bool:
    """Return whether a local folder may be a finished dataset."""
    return (as_path(name) / MANIFEST_NAME).is_file()


def has_sidecars(name: str) -> bool:
    """Return whether a tar, a folder or a table of a dataset has our metadata and index beside it."""
    if is_remote(name) and ("?" in name or "#" in name):
        return False
    path = as_path(name.rstrip("/"))
    return path.with_suffix(".idx.arrow").exists() and path.with_suffix(".parquet").exists()


def shard_samples(name: str, count: Count) -> Iterator[Sample] | None:
    """Return the samples of a shard of ours, whose place is the offset of the image in the tar.

    Args:
        name: the tar.
        count: receives a note if the files beside it are not ours, or damaged.

    Returns:
        None if they cannot be used.
    """
    path = as_path(name)
    try:
        index = _index(path.with_suffix(".idx.arrow").read_bytes())
        table = pq.read_table(pa.BufferReader(path.with_suffix(".parquet").read_bytes()))
        missing = [column for column in _COLUMNS if column not in table.column_names]
        if missing:
            raise DataError(f"its metadata have no column {missing[0]!r}")
        if index.column("key").to_pylist() != table.column("key").to_pylist():
            raise DataError("its metadata and its index name other samples")
    except (pa.ArrowException, OSError, DataError, KeyError) as error:
        count(SIDECARS_UNUSED, 0, f"{name} is read as any tar: {one_line(error)}")
        return None
    return _samples(table, index.column("image_offset").to_pylist(), split_of(name))


def _index(data: bytes) -> pa.Table:
    with pa.ipc.open_file(pa.BufferReader(data)) as file:
        return file.read_all()


def split_of(name: str) -> str:
    """Return the split of a shard: its folder."""
    return name.rstrip("/").rpartition("/")[0].rpartition("/")[2]


def _samples(table: pa.Table, offsets: list[int], split: str) -> Iterator[Sample]:
    rows: list[dict[str, Any]] = table.select(_COLUMNS).to_pylist()
    for row, offset in zip(rows, offsets, strict=True):
        yield Sample(
            offset,
            row["key"],
            row["url"],
            row["texts"],
            split,
            text_sources=row["text_sources"],
            languages=row["languages"],
            page_urls=row["page_urls"],
            licenses=row["licenses"],
        )

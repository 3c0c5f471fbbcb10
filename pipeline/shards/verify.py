"""Checking a dataset folder against its manifest: sums, counts, schemas, and that the index points at the samples."""

import mmap
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from schemas.atomic import sha256_of
from schemas.errors import SchemaError
from schemas.manifest import DatasetManifest, FileEntry, ShardEntry
from schemas.samples import SAMPLES, SHARD_INDEX

_MEMBERS = ("image", "text", "json")
_EXTENSIONS = {"image": "jpg", "text": "txt", "json": "json"}


def verify_dataset(folder: Path) -> list[str]:
    """Everything that is off, one sentence each; empty when the dataset is as its manifest says.

    Raises:
        UserError: the folder holds no manifest.
    """
    manifest = DatasetManifest.load(folder)
    return [problem for shard in manifest.shards for problem in _check_shard(folder, shard)]


def _check_shard(folder: Path, shard: ShardEntry) -> Iterator[str]:
    broken = False
    for entry in (shard.tar, shard.metadata, shard.index, shard.stats):
        problem = _check_file(folder, entry)
        if problem:
            broken = True
            yield problem
    if not broken:
        yield from _check_rows(folder, shard)


def _check_file(folder: Path, entry: FileEntry) -> str | None:
    path = folder / entry.path
    if not path.is_file():
        return f"{entry.path}: missing"
    if path.stat().st_size != entry.bytes:
        return f"{entry.path}: {path.stat().st_size:,} bytes, the manifest says {entry.bytes:,}"
    if sha256_of(path) != entry.sha256:
        return f"{entry.path}: sha256 differs from the manifest's, the bytes have changed"
    return None


def _check_rows(folder: Path, shard: ShardEntry) -> Iterator[str]:
    try:
        keys = SAMPLES.read(folder / shard.metadata.path).column("key").to_pylist()
        with pa.memory_map(str(folder / shard.index.path)) as source:
            index = SHARD_INDEX.conform(pa.ipc.open_file(source).read_all(), shard.index.path).to_pylist()
    except (SchemaError, pa.ArrowInvalid) as error:
        yield str(error)
        return
    if len(keys) != shard.samples:
        yield f"{shard.metadata.path}: {len(keys):,} rows, the manifest says {shard.samples:,}"
    if [row["key"] for row in index] != keys:
        yield f"{shard.index.path}: its keys are not those of {shard.metadata.path}"
    with tarfile.open(folder / shard.tar.path) as tar:
        members = {member.name: (member.offset_data, member.size) for member in tar}
    expected = {
        f"{row['key']}.{_EXTENSIONS[m]}": (row[f"{m}_offset"], row[f"{m}_size"]) for row in index for m in _MEMBERS
    }
    if members != expected:
        yield f"{shard.tar.path}: its members are not where {shard.index.path} says"
        return
    with (folder / shard.tar.path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for row in index:
            if data[row["image_offset"] : row["image_offset"] + 2] != b"\xff\xd8":
                yield f"{shard.tar.path}: sample {row['key']} is no JPEG"

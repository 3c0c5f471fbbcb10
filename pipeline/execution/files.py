"""Describe the files that a stage writes, and compare those that a stage reads with what was written."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.schemas.common.atomic import sha256_of, size_and_sha256
from openwit.schemas.common.errors import DataError, one_line
from openwit.schemas.common.sealed import unseal
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.reading import open_ranges
from openwit.schemas.common.storage.store_path import is_store
from openwit.schemas.manifest import FileEntry

STAGE = ".stage"
"""Subfolder for bookkeeping beside a stage's own files."""
PROBE = f"{STAGE}/probe"
"""Written by the driver, read by workers: do they see the folder?"""
STAGE_MANIFEST = f"{STAGE}/manifest.json"
LOCK = f"{STAGE}/lock"


def file_entry(folder: Path, path: Path) -> FileEntry:
    """Return the entry of a file below `folder` with its size and sha256."""
    size, sha256 = size_and_sha256(path)
    return FileEntry(path=path.relative_to(folder).as_posix(), bytes=size, sha256=sha256)


def is_intact(path: Path, entry: FileEntry) -> bool:
    """Return whether a file is there with the size and sha256 of its entry; in a store only the size is compared.

    Bytes of a store are compared when they are read; reading them all to resume would take as long as the work.
    """
    try:
        if is_store(path):
            return path.stat().st_size == entry.bytes
        return path.stat().st_size == entry.bytes and sha256_of(path) == entry.sha256
    except (FileNotFoundError, NotADirectoryError):
        return False


def checked(path: Path) -> Path:
    """Return a path that a finished stage wrote, after comparing its bytes with the stage's manifest.

    For a file of a store, the path of a copy on this machine is returned (see `cached`).

    A task calls this for each file of an earlier stage before it reads it. A file outside a stage's folder, or that
    the manifest does not list, is not compared: nobody stated what it should be.

    Raises:
        DataError: the file is missing or was changed since.
    """
    folder = _stage_folder(path.parent)
    if folder is None:
        return cached(path)
    manifest = folder / STAGE_MANIFEST
    stat = manifest.stat()
    stage, entries = _written(manifest, stat.st_mtime_ns, stat.st_size)
    entry = entries.get(path.relative_to(folder).as_posix())
    try:
        local = cached(path)
    except FileNotFoundError:
        raise DataError(_damage(path, folder, stage)) from None
    if entry is not None and not is_intact(local, FileEntry(path=str(path), bytes=entry[0], sha256=entry[1])):
        raise DataError(_damage(path, folder, stage))
    return local


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Read a file of an earlier stage whose bytes are not compared yet; if that fails, say why.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        checked(path)
        raise DataError(f"{path} cannot be read: {one_line(error)}") from error


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Read some columns of a Parquet file of an earlier stage; of a file in a store, only their bytes are fetched.

    A local file is compared with the stage's manifest first; of one in a store, whose other columns may be a hundred
    times as large, only the size.

    Raises:
        DataError: the file is missing, was changed since, or cannot be read.
    """
    if not is_store(path):
        return pq.read_table(checked(path), columns=list(columns))
    with explained(path), open_ranges(path) as file:
        return pq.read_table(file, columns=list(columns))


def row_count(path: Path) -> int:
    """Return the number of rows of a Parquet file; nothing but its footer is read."""
    with open_ranges(path) as file:
        return int(pq.read_metadata(file).num_rows)


_folders: dict[Path, Path] = {}


def _stage_folder(below: Path) -> Path | None:
    """Return the folder of the finished stage that a folder belongs to; None if it belongs to none."""
    known = _folders.get(below)
    if known is not None and (known / STAGE_MANIFEST).is_file():
        return known
    for folder in (below, *below.parents):
        if (folder / STAGE_MANIFEST).is_file():
            _folders[below] = folder
            return folder
    return None


def _damage(path: Path, folder: Path, stage: str) -> str:
    what = "has changed since it was written" if path.exists() else "is missing"
    return (
        f"{path} {what}: delete {folder / STAGE_MANIFEST} and run {stage!r}, or the whole build, again; "
        "only what is damaged is made anew"
    )


@lru_cache(maxsize=8)
def _written(manifest: Path, changed: int, size: int) -> tuple[str, dict[str, tuple[int, str]]]:  # noqa: ARG001
    """Return the stage of a manifest, and bytes and sha256 of its files; of the same file read once per process."""
    listed = json.loads(unseal(manifest.read_bytes(), manifest, required=False))
    return str(listed["stage"]), {entry["path"]: (entry["bytes"], entry["sha256"]) for entry in listed["files"]}

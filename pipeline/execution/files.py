"""Describe the files that a stage writes, and compare those that a stage reads with what was written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.schemas.common.atomic import atomic_write, note_version, sha256_of, size_and_sha256
from openwit.schemas.common.errors import DataError, one_line
from openwit.schemas.common.sealed import seal, unseal
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.reading import open_ranges, store_facts
from openwit.schemas.common.storage.store_path import is_store
from openwit.schemas.manifest import FileEntry

STAGE = ".stage"
"""Subfolder for bookkeeping beside a stage's own files."""
PROBE = f"{STAGE}/probe"
"""Written by the driver, read by workers: do they see the folder?"""
STAGE_MANIFEST = f"{STAGE}/manifest.json"
LOCK = f"{STAGE}/lock"
_VERSIONS = f"{STAGE}/versions.json"


def file_entry(folder: Path, path: Path) -> FileEntry:
    """Return the entry of a file below `folder` with its size and sha256."""
    size, sha256 = size_and_sha256(path)
    return FileEntry(path=path.relative_to(folder).as_posix(), bytes=size, sha256=sha256)


def is_intact(path: Path, entry: FileEntry, version: str = "") -> bool:
    """Return whether a file is there with the size and sha256 of its entry.

    A file of a store is not read for that if the store names the version that was written: reading all of them to
    resume would take as long as the work.
    """
    try:
        if not is_store(path):
            return path.stat().st_size == entry.bytes and sha256_of(path) == entry.sha256
        facts = store_facts(path)
        if facts is None or facts.size != entry.bytes:
            return False
        if (not version or facts.version != version) and sha256_of(path) != entry.sha256:
            return False
    except (FileNotFoundError, NotADirectoryError):
        return False
    note_version(path, entry.bytes, entry.sha256, facts.version)
    return True


@contextmanager
def open_unchanged(path: Path) -> Iterator[Any]:
    """Yield what Arrow reads a file of an earlier stage from; of a file in a store, only what it reads is fetched.

    A file of a store must have the version that was written; where it has another, as in a copy of a work folder, the
    whole file is read once, and compared with its checksum. A local file is not compared: see `checked`.

    Raises:
        DataError: the file is missing or was changed since.
    """
    folder = _stage_folder(path.parent) if is_store(path) else None
    if folder is not None:
        stage, entry = _entry_of(folder, path)
        version = _versions(folder).get(path.relative_to(folder).as_posix(), "")
        if entry is not None and not is_intact(path, entry, version):
            raise DataError(_damage(path, folder, stage))
    with open_ranges(path) as file:
        yield file


def write_versions(folder: Path, versions: Mapping[str, str]) -> None:
    """Record the versions of the files of a stage in a store, by path."""
    if versions:
        atomic_write(folder / _VERSIONS, seal(json.dumps(versions, sort_keys=True)))


def _versions(folder: Path) -> dict[str, str]:
    facts = store_facts(folder / _VERSIONS)
    return {} if facts is None else _read_versions(folder / _VERSIONS, facts.version)


@lru_cache(maxsize=8)
def _read_versions(path: Path, version: str) -> dict[str, str]:  # noqa: ARG001
    try:
        found: dict[str, str] = json.loads(unseal(path.read_bytes(), path))
    except (FileNotFoundError, ValueError):
        return {}  # whole files are compared
    return found


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
    stage, entry = _entry_of(folder, path)
    try:
        local = cached(path)
    except FileNotFoundError:
        raise DataError(_damage(path, folder, stage)) from None
    if entry is not None and not is_intact(local, entry):
        raise DataError(_damage(path, folder, stage))
    return local


def checked_if_any(path: Path) -> Path | None:
    """Return what `checked` returns, or None if the file does not exist and the stage's manifest does not list it.

    Raises:
        DataError: the manifest lists the file, and it is missing or was changed since.
    """
    folder = _stage_folder(path.parent)
    entry = None if folder is None else _entry_of(folder, path)[1]
    return checked(path) if entry is not None or path.exists() else None


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

    A field of a list of structs has a name, too: `pairs.list.element.archive`.

    A local file is compared with the stage's manifest first; of one in a store, whose other columns may be a hundred
    times as large, the version (see `open_unchanged`).

    Raises:
        DataError: the file is missing, was changed since, or cannot be read.
    """
    if not is_store(path):
        with pq.ParquetFile(checked(path)) as table:
            return table.read(columns=list(columns))
    with explained(path), open_unchanged(path) as file, pq.ParquetFile(file) as table:
        return table.read(columns=list(columns))


def row_count(path: Path) -> int:
    """Return the number of rows of a Parquet file; nothing but its footer is read."""
    with open_unchanged(path) as file:
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


def _entry_of(folder: Path, path: Path) -> tuple[str, FileEntry | None]:
    """Return the stage of a folder, and the entry of a file in its manifest."""
    manifest = folder / STAGE_MANIFEST
    if is_store(manifest):
        facts = store_facts(manifest)
        state = (0, 0, "") if facts is None else (0, facts.size, facts.version)
    else:
        stat = manifest.stat()
        state = (stat.st_mtime_ns, stat.st_size, "")
    stage, entries = _written(manifest, state)
    entry = entries.get(path.relative_to(folder).as_posix())
    return stage, None if entry is None else FileEntry(path=str(path), bytes=entry[0], sha256=entry[1])


@lru_cache(maxsize=8)
def _written(manifest: Path, _state: tuple[int, int, str]) -> tuple[str, dict[str, tuple[int, str]]]:
    """Return the stage of a manifest, and bytes and sha256 of its files; of the same file read once per process."""
    listed = json.loads(unseal(manifest.read_bytes(), manifest, required=False))
    return str(listed["stage"]), {entry["path"]: (entry["bytes"], entry["sha256"]) for entry in listed["files"]}

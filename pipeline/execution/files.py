"""Describe the files that a stage writes, and compare those that a stage reads with what was written."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError, one_line
from openwit.schemas.common.sealed import unseal
from openwit.schemas.manifest import FileEntry

STAGE = ".stage"
"""Subfolder for bookkeeping beside a stage's own files."""
STAGE_MANIFEST = f"{STAGE}/manifest.json"
LOCK = f"{STAGE}/lock"


def file_entry(folder: Path, path: Path) -> FileEntry:
    """Return the entry of a file below `folder` with its size and sha256."""
    return FileEntry(path=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=sha256_of(path))


def is_intact(path: Path, entry: FileEntry) -> bool:
    """Return whether a file is there with the size and sha256 of its entry."""
    try:
        return path.stat().st_size == entry.bytes and sha256_of(path) == entry.sha256
    except (FileNotFoundError, NotADirectoryError):
        return False


def checked(path: Path) -> Path:
    """Return a path that a finished stage wrote, after comparing its bytes with the stage's manifest.

    A task calls this for each file of an earlier stage before it reads it. A file outside a stage's folder, or that
    the manifest does not list, is not compared: nobody stated what it should be.

    Raises:
        DataError: the file is missing or was changed since.
    """
    folder = next((parent for parent in path.parents if (parent / STAGE_MANIFEST).is_file()), None)
    if folder is None:
        return path
    manifest = folder / STAGE_MANIFEST
    stat = manifest.stat()
    stage, entries = _written(manifest, stat.st_mtime_ns, stat.st_size)
    entry = entries.get(path.relative_to(folder).as_posix())
    if entry is not None and not is_intact(path, entry):
        raise DataError(_damage(path, folder, stage))
    return path


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


def _damage(path: Path, folder: Path, stage: str) -> str:
    what = "has changed since it was written" if path.exists() else "is missing"
    return (
        f"{path} {what}: delete {folder / STAGE_MANIFEST} and run {stage!r}, or the whole build, again; "
        "only what is damaged is made anew"
    )


@lru_cache(maxsize=8)
def _written(manifest: Path, changed: int, size: int) -> tuple[str, dict[str, FileEntry]]:  # noqa: ARG001
    """Return the stage and the files of a manifest; of the same file read once per process."""
    listed = json.loads(unseal(manifest.read_bytes(), manifest, required=False))
    entries = (FileEntry.model_validate(entry) for entry in listed["files"])
    return str(listed["stage"]), {entry.path: entry for entry in entries}

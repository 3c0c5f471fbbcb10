"""Describe the files that a stage writes."""

from pathlib import Path

from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.manifest import FileEntry


def file_entry(folder: Path, path: Path) -> FileEntry:
    """Return the entry of a file below `folder` with its size and sha256."""
    return FileEntry(path=str(path.relative_to(folder)), bytes=path.stat().st_size, sha256=sha256_of(path))

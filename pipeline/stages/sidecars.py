"""Copy small tables with the data from stage to stage, so that a dataset explains itself."""

from pathlib import Path

from openwit.pipeline.execution.files import checked_if_any, file_entry
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.storage.reading import copy_file
from openwit.schemas.manifest import FileEntry

QUERY_COUNTS_FILE = "queries.parquet"
EXAMPLES_FILE = "duplicates.parquet"
REHYDRATED_FILE = "rehydrated.parquet"


def copy_query_counts(source: Path, target: Path) -> list[FileEntry]:
    """Copy the query list with its counts from one stage's folder to the next; return the copied files."""
    return copy_sidecar(source, target, QUERY_COUNTS_FILE)


def copy_examples(source: Path, target: Path) -> list[FileEntry]:
    """Copy the examples of duplicates from one stage's folder to the next; return the copied files."""
    return copy_sidecar(source, target, EXAMPLES_FILE)


def copy_rehydrated(source: Path, target: Path) -> list[FileEntry]:
    """Copy what became of the samples of a lock from one stage's folder to the next; return the copied files."""
    return copy_sidecar(source, target, REHYDRATED_FILE)


def copy_sidecar(source: Path, target: Path, name: str) -> list[FileEntry]:
    path = checked_if_any(source / name)
    if path is None:
        return []
    with atomic_path(target / name) as temporary:
        copy_file(path, temporary)
    return [file_entry(target, target / name)]

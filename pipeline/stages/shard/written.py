"""Shards as tasks write them: what is planned, what was written, and how its files get into the dataset."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openwit.pipeline.dataset.layouts import folder_sum, held_bytes, sums_of
from openwit.pipeline.dataset.store import LocalFolder, RemoteFolder, by_folder, move_in
from openwit.pipeline.dataset.write_shard import SHARD_FILES
from openwit.pipeline.execution.files import is_intact
from openwit.pipeline.execution.jobs import TaskResult, TaskStats
from openwit.pipeline.execution.tasks import RESULTS, read_result
from openwit.schemas.common.storage.store_path import is_store
from openwit.schemas.manifest import FileEntry, ShardEntry

STEP = "shard/pairs"
SAMPLES_STEP = "shard/samples"


@dataclass(frozen=True)
class ShardPlan:
    """A shard to write: its split."""

    split: str


@dataclass(frozen=True)
class WrittenShard:
    """A written shard: its split, counts, and files in the order of SHARD_FILES."""

    split: str
    samples: int
    pairs: int
    files: list[FileEntry]

    def count(self, stats: TaskStats) -> None:
        """Count the shard in both lines of the funnel, and make it the result of its task."""
        for step, n in ((SAMPLES_STEP, self.samples), (STEP, self.pairs)):
            stats.enter(step, n)
            stats.leave(step, n)
        stats.extra = self


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Yield the folder in which files are written: the stage's own, or one of this machine if that lies in a store."""
    if not is_store(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="openwit-") as scratch:
        yield Path(scratch)


def put_in(target: str | None, scratch: Path, files: Sequence[tuple[Path, str]]) -> list[FileEntry]:
    """Return the entries of files that were written below `scratch`; move them to a dataset behind a URL.

    Args:
        target: URL of the dataset; None if it is `scratch`.
        files: paths with their sha256.
    """
    entries = [
        FileEntry(path=path.relative_to(scratch).as_posix(), bytes=held_bytes(path), sha256=sha256)
        for path, sha256 in files
    ]
    if target is not None:
        store = RemoteFolder(target)
        for name in dict.fromkeys(entry.path for entry in entries):
            move_in(store, scratch / name, name)
    return entries


def written_sizes(store: LocalFolder | RemoteFolder, folder: Path) -> dict[str, int]:
    """Return sizes in bytes of the dataset's files and folders; {} if no task of the stage's folder has a result."""
    sizes = store.sizes() if any((folder / RESULTS).glob("[0-9]*.json")) else {}
    return sizes | {name: sum(files.values()) for name, files in by_folder(sizes).items()}


def is_written(folder: Path, name: str, written: dict[str, int], local: Path | None) -> bool:
    """Return whether a shard exists as its result records; delete a result that does not match.

    Args:
        written: sizes of the dataset's files and folders.
        local: folder of the dataset, whose bytes are compared too; None if it is behind a URL.
    """
    task_result = read_result(folder, name)
    files = [] if task_result is None else each_once(task_result.extra_as(WrittenShard).files)
    whole = bool(files) and all(written.get(entry.path) == entry.bytes for entry in files)
    whole = whole and (local is None or all(_is_same(local / entry.path, entry) for entry in files))
    if not whole:
        (folder / RESULTS / f"{name}.json").unlink(missing_ok=True)
    return whole


def each_once(files: list[FileEntry]) -> list[FileEntry]:
    """Return entries without those of a file that is named before."""
    return list({entry.path: entry for entry in files}.values())


def _is_same(path: Path, entry: FileEntry) -> bool:
    if not path.is_dir():
        return is_intact(path, entry)
    return folder_sum(sums_of(path, [each.name for each in path.iterdir()])) == entry.sha256


def entry_of(result: TaskResult) -> ShardEntry:
    """Return the manifest's entry of a shard that a task wrote."""
    shard = result.extra_as(WrittenShard)
    files: dict[str, Any] = dict(zip(SHARD_FILES, shard.files, strict=True))
    return ShardEntry(name=result.task, split=shard.split, samples=shard.samples, pairs=shard.pairs, **files)

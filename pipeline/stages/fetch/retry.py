"""Retry transient failures in a finished fetch folder.

The new files of all chunks are written to a staging folder. When it is complete, a marker is written and the files are
moved into place, in this run or the next: the folder holds either the old or the new images, never a mix.
"""

import heapq
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from openwit.pipeline.download.status import RESPONDED, RETRY_LATER
from openwit.pipeline.execution.files import STAGE, STAGE_MANIFEST
from openwit.pipeline.execution.jobs import Task, TaskResult
from openwit.pipeline.execution.stage import Job, StageManifest
from openwit.pipeline.execution.tasks import clean_partials
from openwit.pipeline.stages.base import IMAGES
from openwit.pipeline.stages.fetch import FetchPaths
from openwit.pipeline.stages.fetch.candidate_inputs import CandidateInputs
from openwit.pipeline.stages.fetch.chunk import CHUNKS, OpenChunk, log_row, read_receipt, write_receipt
from openwit.pipeline.stages.fetch.grouping import Cell
from openwit.pipeline.stages.fetch.images import image_pairs, read_image_rows, write_images
from openwit.pipeline.stages.fetch.log import FETCH_LOG, LOG
from openwit.pipeline.stages.fetch.plan import HostTask, chunk_name
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.fetch.task import FetchTask
from openwit.schemas.common.atomic import atomic_path, atomic_write, forget_version
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.reading import copy_file, move_file, remove_tree
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.candidates import DROPS

_STAGING = f"{STAGE}/retry"
_COMPLETE = "complete"
_FOLDERS = {"images": ".parquet", "drops": ".parquet", LOG: ".parquet", CHUNKS: ".json"}


def chunks_to_retry(folder: Path) -> frozenset[int]:
    """Return the chunks of a finished folder that have transient failures.

    Raises:
        DataError: a file of a chunk is missing or damaged.
    """
    names = [path.stem for path in StageManifest.load_any(folder, ["fetch"]).paths(folder, IMAGES.name)]
    for name in names:
        if read_receipt(folder, name) is None:
            raise DataError(
                f"a file of chunk {name} in {folder} is missing or damaged: delete {folder / STAGE_MANIFEST} and run "
                "the stage again; only what is damaged is fetched anew"
            )
    return frozenset(int(name) for name in names if _has_retryable(folder / LOG / f"{name}.parquet"))


def retry_chunks(job: Job, folder: Path, tasks: list[Task[HostTask]], work: "RetryTask") -> None:
    """Retry chunks that have transient failures, and move the new files into place.

    Chunks that were finished before a kill are skipped. Afterwards the stage's manifest is gone: run the stage to
    write it again.
    """
    staging = folder / _STAGING
    clean_partials(staging)
    job.run(staging, tasks, "Retry failed images", "images", work)
    atomic_write(staging / _COMPLETE, json.dumps([chunk_name(number) for number in sorted(work.failed)]))
    promote(folder)


def promote(folder: Path) -> None:
    """Move the files of a complete retry into place, or resume a killed move; does nothing without one."""
    staging = folder / _STAGING
    try:
        names = json.loads((staging / _COMPLETE).read_bytes())
    except FileNotFoundError:
        return
    # From here on a reader sees an unfinished stage.
    (folder / STAGE_MANIFEST).unlink(missing_ok=True)
    # Listed by the marker: a store may list late what was written a moment ago.
    for place, suffix in _FOLDERS.items():
        for name in names:
            path = Path(place) / f"{name}{suffix}"
            if (staging / path).exists():  # else a killed move was faster
                forget_version(folder / path)
                move_file(staging / path, folder / path)
    remove_tree(staging)


def _has_retryable(log: Path) -> bool:
    statuses = pq.read_table(cached(log), columns=["status"]).column("status")
    return any(status in RETRY_LATER for status in statuses.unique().to_pylist())


class RetryTask(FetchTask):
    """Retry the failed URLs of chunks, and write their files as if the new images had been fetched the first time.

    Args:
        home: the finished fetch folder; new files are written to the task's folder.
        failed: chunks with transient failures.
    """

    judged = False
    whole = False

    def __init__(
        self,
        settings: FetchSettings,
        cells: Sequence[Cell],
        inputs: CandidateInputs,
        home: Path,
        failed: frozenset[int],
    ) -> None:
        super().__init__(settings, cells, inputs)
        self.home = str(home)
        self.failed = failed

    def chunks(self, task: HostTask) -> list[int]:
        """See the base class."""
        return [number for number in range(task.first, task.end) if number in self.failed]

    def wanted(self, chunk: OpenChunk) -> set[str]:
        """See the base class."""
        log = FETCH_LOG.read(as_path(self.home) / LOG / f"{chunk.name}.parquet").select(["url", "status"])
        return {row["url"] for row in log.to_pylist() if row["status"] in RETRY_LATER}

    def write(self, folder: Path, chunk: OpenChunk) -> TaskResult:
        """Merge the new results of a chunk with its earlier ones."""
        home, name, results = as_path(self.home), f"{chunk.name}.parquet", dict(chunk.results)
        if not any(result.status in RESPONDED for result in results.values()):
            results.clear()  # perhaps a local outage: keep the earlier statuses
        images = FetchPaths(folder).images / name
        if results and len(chunk.images):
            write_images(images, _merged(FetchPaths(home).images / name, chunk.images.rows(chunk.kept_pairs())))
        else:
            with atomic_path(images) as temporary:
                copy_file(FetchPaths(home).images / name, temporary)
        drops = [drop for drop in DROPS.read(FetchPaths(home).drops / name).to_pylist() if drop["url"] not in results]
        drops += [drop for drop in chunk.drops() if drop["url"] in results]
        log = {row["url"]: row for row in FETCH_LOG.read(home / LOG / name).to_pylist()}
        log.update((url, log_row(url, result)) for url, result in results.items())
        kept = image_pairs(images)
        return write_receipt(folder, chunk.name, images, kept=kept, drops=drops, log=list(log.values()))


def _merged(old: Path, new: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return heapq.merge(read_image_rows(old), new, key=lambda row: row["url"])

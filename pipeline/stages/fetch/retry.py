"""Retry transient failures in a finished fetch folder.

The new files of all chunks are written to a staging folder. When it is complete, a marker is written and the files are
moved into place, in this run or the next: the folder holds either the old or the new images, never a mix.
"""

import heapq
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from openwit.pipeline.download.status import RESPONDED, RETRY_LATER
from openwit.pipeline.execution.files import STAGE, STAGE_MANIFEST, is_intact
from openwit.pipeline.execution.jobs import Task, TaskStats
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.execution.tasks import RESULTS, clean_partials, read_result
from openwit.pipeline.stages.fetch import FetchPaths
from openwit.pipeline.stages.fetch.candidate_inputs import CandidateInputs
from openwit.pipeline.stages.fetch.chunk import (
    FetchChunk,
    FetchResult,
    HostBuckets,
    count,
    drops_of,
    log_row,
    write_drops,
    write_log,
)
from openwit.pipeline.stages.fetch.images import ImageSpill, image_pairs, read_image_rows, write_images
from openwit.pipeline.stages.fetch.log import FETCH_LOG, LOG
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.schemas.common.atomic import atomic_path, atomic_write
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.reading import copy_file, remove_tree
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.candidates import DROPS

_STAGING = f"{STAGE}/retry"
_COMPLETE = "complete"
_FOLDERS = ("images", "drops", LOG, RESULTS)


def retry_chunks(job: Job, folder: Path, tasks: list[Task[HostBuckets]], work: "RetryChunk") -> bool:
    """Retry every chunk that has transient failures, and move the new files into place.

    Chunks that were finished before a kill are skipped. If this returns True, the stage's manifest has been deleted:
    run the stage to write it again.

    Returns:
        Whether there was anything to retry.
    """
    for task in tasks:
        _check_chunk(folder, task.name)
    failed = [task for task in tasks if _has_retryable(folder / LOG / f"{task.name}.parquet")]
    if not failed:
        return False
    staging = folder / _STAGING
    clean_partials(staging)
    job.run(staging, failed, "Retry failed images", "images", work)
    atomic_write(staging / _COMPLETE, "")
    promote(folder)
    return True


def promote(folder: Path) -> None:
    """Move the files of a complete retry into place, or resume a killed move; does nothing without one."""
    staging = folder / _STAGING
    if not (staging / _COMPLETE).exists():
        return
    # From here on a reader sees an unfinished stage.
    (folder / STAGE_MANIFEST).unlink(missing_ok=True)
    for name in _FOLDERS:
        for path in sorted((staging / name).glob("[!.]*")):
            os.replace(path, folder / name / path.name)
    remove_tree(staging)


def _check_chunk(folder: Path, name: str) -> None:
    """Compare the files of a finished chunk with what it recorded.

    Raises:
        DataError: one is missing or damaged.
    """
    result = read_result(folder, name)
    if result is None or not all(is_intact(folder / entry.path, entry) for entry in result.files):
        raise DataError(
            f"a file of chunk {name} in {folder} is missing or damaged: delete {folder / STAGE_MANIFEST} and run the "
            "stage again; only what is damaged is fetched anew"
        )


def _has_retryable(log: Path) -> bool:
    statuses = pq.read_table(cached(log), columns=["status"]).column("status")
    return any(status in RETRY_LATER for status in statuses.unique().to_pylist())


class RetryChunk(FetchChunk):
    """Retry the failed URLs of a chunk, and write its files as if the new images had been fetched the first time.

    Args:
        home: the finished fetch folder; new files are written to the task's folder.
    """

    def __init__(self, settings: FetchSettings, selected: list[str], inputs: CandidateInputs, home: str) -> None:
        super().__init__(settings, selected, inputs)
        self.home = home

    def run(self, task: Task[HostBuckets], folder: Path, stats: TaskStats) -> list[Path]:
        """See the class."""
        home, name = as_path(self.home), f"{task.name}.parquet"
        log = {row["url"]: row for row in FETCH_LOG.read(home / LOG / name).to_pylist()}
        again = [url for url, row in log.items() if row["status"] in RETRY_LATER]
        by_url = self.pairs(task)
        results: dict[str, FetchResult] = {}
        with ImageSpill(FetchPaths(folder).images) as images:
            for url, result in self.fetch_urls(again, images, by_url):
                results[url] = result
                stats.tick(len(results), len(results) / len(again))
            if not any(result.status in RESPONDED for result in results.values()):
                results.clear()  # perhaps a local outage: keep the earlier statuses
            images_path = FetchPaths(folder).images / name
            if len(images):
                write_images(images_path, _merged(FetchPaths(home).images / name, images.rows(by_url)))
            else:
                with atomic_path(images_path) as temporary:
                    copy_file(FetchPaths(home).images / name, temporary)
        drops = [drop for drop in DROPS.read(FetchPaths(home).drops / name).to_pylist() if drop["url"] not in results]
        drops += [drop for url, result in results.items() for drop in drops_of(url, by_url[url], result)]
        count(stats, image_pairs(images_path), drops)
        log.update((url, log_row(url, result)) for url, result in results.items())
        return [images_path, write_drops(folder, task, drops), write_log(folder, task, list(log.values()))]


def _merged(old: Path, new: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return heapq.merge(read_image_rows(old), new, key=lambda row: row["url"])

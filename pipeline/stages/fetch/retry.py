"""Asking once more for what failed for reasons that pass, in a fetch folder that is finished.

The new files of a chunk are made in a folder of their own. When all are there a mark is set, and from then on they
move to their places, in this run or the next: the folder holds the old images or the new ones, never some of both.
"""

import heapq
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from openwit.pipeline.download.status import RESPONDED, RETRY_LATER
from openwit.pipeline.execution.jobs import Task, TaskStats
from openwit.pipeline.execution.stage import STAGE_MANIFEST, Job
from openwit.pipeline.execution.tasks import RESULTS, STAGE, clean_partials
from openwit.pipeline.stages.fetch import FetchPaths
from openwit.pipeline.stages.fetch.candidate_inputs import CandidateInputs
from openwit.pipeline.stages.fetch.chunk import (
    Ending,
    FetchChunk,
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
from openwit.schemas.tables.candidates import DROPS

_STAGING = f"{STAGE}/retry"
_COMPLETE = "complete"
_FOLDERS = ("images", "drops", LOG, RESULTS)


def retry_chunks(job: Job, folder: Path, tasks: list[Task[HostBuckets]], work: "RetryChunk") -> bool:
    """Asks again in every chunk that has something to ask for, and puts the results in place.

    After a kill, the chunks that were done are not asked again. The stage's manifest is gone when this returns
    True: the stage must be run to write it anew.

    Returns:
        Whether there was anything to ask for.
    """
    failed = [task for task in tasks if _has_retryable(folder / LOG / f"{task.name}.parquet")]
    if not failed:
        return False
    staging = folder / _STAGING
    clean_partials(staging)
    job.run(staging, failed, "Fetch failed images again", "images", work)
    atomic_write(staging / _COMPLETE, "")
    promote(folder)
    return True


def promote(folder: Path) -> None:
    """Moves the results of a complete retry to their places; goes on where a killed move ended. Else nothing."""
    staging = folder / _STAGING
    if not (staging / _COMPLETE).exists():
        return
    # Whoever reads the folder now is told that its stage is not finished.
    (folder / STAGE_MANIFEST).unlink(missing_ok=True)
    for name in _FOLDERS:
        for path in sorted((staging / name).glob("[!.]*")):
            os.replace(path, folder / name / path.name)
    shutil.rmtree(staging)


def _has_retryable(log: Path) -> bool:
    statuses = pq.read_table(log, columns=["status"]).column("status")
    return any(status in RETRY_LATER for status in statuses.unique().to_pylist())


class RetryChunk(FetchChunk):
    """Asks again for the failed URLs of a chunk, and writes its files as if what comes now had come at once.

    Args:
        home: the finished fetch folder; the tasks' own folder takes the new files.
    """

    def __init__(self, settings: FetchSettings, selected: list[str], inputs: CandidateInputs, home: str) -> None:
        super().__init__(settings, selected, inputs)
        self.home = home

    def run(self, task: Task[HostBuckets], folder: Path, stats: TaskStats) -> list[Path]:
        """See the class."""
        home, name = Path(self.home), f"{task.name}.parquet"
        log = {row["url"]: row for row in FETCH_LOG.read(home / LOG / name).to_pylist()}
        again = [url for url, row in log.items() if row["status"] in RETRY_LATER]
        by_url = self.pairs(task)
        endings: dict[str, Ending] = {}
        with ImageSpill(FetchPaths(folder).images) as images:
            for url, ending in self.ask(again, images, by_url):
                endings[url] = ending
                stats.tick(len(endings), len(endings) / len(again))
            if not any(ending.status in RESPONDED for ending in endings.values()):
                endings.clear()  # we may be cut off: what was known before is worth more
            images_path = FetchPaths(folder).images / name
            if len(images):
                write_images(images_path, _merged(FetchPaths(home).images / name, images.rows(by_url)))
            else:
                with atomic_path(images_path) as temporary:
                    shutil.copyfile(FetchPaths(home).images / name, temporary)
        drops = [drop for drop in DROPS.read(FetchPaths(home).drops / name).to_pylist() if drop["url"] not in endings]
        drops += [drop for url, ending in endings.items() for drop in drops_of(url, by_url[url], ending)]
        count(stats, image_pairs(images_path), drops)
        log.update((url, log_row(url, ending)) for url, ending in endings.items())
        return [images_path, write_drops(folder, task, drops), write_log(folder, task, list(log.values()))]


def _merged(old: Path, new: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return heapq.merge(read_image_rows(old), new, key=lambda row: row["url"])

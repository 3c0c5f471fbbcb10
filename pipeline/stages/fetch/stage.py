"""Fetch: from selected URLs to decoded, resized images. All URLs of a host belong to one task, for politeness.

Image bytes that a table holds skip the download and pass the same checks.
"""

from pathlib import Path

import numpy as np

from openwit.pipeline.common.reasons import unique
from openwit.pipeline.download.status import FetchStatus
from openwit.pipeline.execution.files import read_columns
from openwit.pipeline.execution.jobs import Task
from openwit.pipeline.execution.stage import Job, StageManifest, StageResult
from openwit.pipeline.images.process import ImageReason
from openwit.pipeline.stages.base import Inputs
from openwit.pipeline.stages.fetch.candidate_inputs import inputs_of
from openwit.pipeline.stages.fetch.chunk import IMAGES_STEP, PAIRS_STEP, FetchChunk, HostBuckets
from openwit.pipeline.stages.fetch.engine import make_engine
from openwit.pipeline.stages.fetch.log import HOSTS_FILE, LOG, write_hosts
from openwit.pipeline.stages.fetch.messages import relay_worker_messages
from openwit.pipeline.stages.fetch.retry import RetryChunk, retry_chunks
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.sidecars import copy_query_counts
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import refuse_special

FETCH_REASONS = unique(
    (reason for reason in FetchStatus.reasons() if reason != str(FetchStatus.SUCCESS)), ImageReason.reasons()
)
"""Every reason for which an image is dropped."""


def retry(job: Job, settings: FetchSettings, inputs: Inputs, folder: Path) -> bool:
    """Retry the transient failures (`RETRY_LATER`) of a finished folder, and merge the new images.

    Returns:
        Whether there was anything to retry; the folder then has no manifest until the stage is run again.
    """
    selected = inputs.one("selected")
    upstream = selected.stage_manifest()
    files = [str(path) for path in upstream.paths(selected.folder, "selected")]
    work = RetryChunk(settings, files, inputs_of(upstream), str(folder))
    return retry_chunks(job, folder, _tasks(settings, upstream, selected.folder), work)


def fetch_images(job: Job, settings: FetchSettings, inputs: Inputs, folder: Path) -> StageResult:
    """Write the images of the selected pairs, chunk by chunk, and the drops with their reasons."""
    selected, upstream = inputs.one("selected").folder, inputs.one("selected").stage_manifest()
    make_engine(settings)  # raises before work begins if the blocklist or the installation is wrong
    files = [str(path) for path in upstream.paths(selected, "selected")]
    work = FetchChunk(settings, files, inputs_of(upstream))
    with relay_worker_messages(folder):
        results = job.run(folder, _tasks(settings, upstream, selected), "Fetch images", "images", work)
    result = StageResult()
    result.add_results(results, [IMAGES_STEP, PAIRS_STEP])
    # Logs and hosts hold times, so each run writes different bytes: the manifest names them without checksums.
    logs = [entry.path for entry in result.files if entry.path.startswith(f"{LOG}/")]
    result.files = [entry for entry in result.files if not entry.path.startswith(f"{LOG}/")]
    write_hosts(folder / HOSTS_FILE, [folder / log for log in logs])
    result.extra = {"hosts": HOSTS_FILE, "log": LOG}
    result.files += copy_query_counts(selected, folder)
    return result


def _tasks(settings: FetchSettings, upstream: StageManifest, selected: Path) -> list[Task[HostBuckets]]:
    chunks = plan_chunks(_bucket_counts(upstream.paths(selected, "selected")), settings.chunk)
    return [Task(n, f"{n:05d}", HostBuckets(first, last)) for n, (first, last) in enumerate(chunks)]


def blocklist_identity(settings: FetchSettings) -> dict[str, str]:
    """Return the identity of the blocklist that the settings name.

    Raises:
        DataError: it cannot be read.
    """
    if settings.blocklist is None:
        return {}
    path = Path(settings.blocklist)
    refuse_special(path, f"blocklist: {path}")
    try:
        return {"blocklist": sha256_of(path)}
    except OSError as error:
        raise DataError(f"blocklist: {path} cannot be read: {error.strerror or error}") from error


def _bucket_counts(files: list[Path]) -> np.ndarray:
    counts = np.zeros(0, np.int64)
    for path in files:
        buckets = read_columns(path, ["host_bucket"]).column("host_bucket").to_numpy()
        here = np.bincount(buckets, minlength=len(counts)).astype(np.int64)
        here[: len(counts)] += counts
        counts = here
    return counts


def plan_chunks(counts: np.ndarray, target: int) -> list[tuple[int, int]]:
    """Split host buckets into runs of about `target` rows.

    Args:
        counts: int64 (B,), rows of each bucket.
        target: rows a run aims at.

    Returns:
        (first, last) buckets of each run, both included; together they hold every row, none twice.
    """
    runs, first, rows = [], 0, 0
    for bucket, count in enumerate(counts.tolist()):
        rows += count
        if rows >= target:
            runs.append((first, bucket))
            first, rows = bucket + 1, 0
    if rows:
        runs.append((first, len(counts) - 1))
    return runs

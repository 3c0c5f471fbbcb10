"""Fetch: from selected URLs to decoded, resized images. All URLs of a host are handled by one task, for politeness.

Bytes that already stand in a table skip the download and pass through the same checks.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from openwit.pipeline.execution.jobs import Task
from openwit.pipeline.execution.stage import Job, StageManifest, StageResult, run_stage, stage_input
from openwit.pipeline.stages.fetch.candidate_inputs import inputs_of
from openwit.pipeline.stages.fetch.chunk import IMAGES_STEP, PAIRS_STEP, FetchChunk, HostBuckets, load_image_filters
from openwit.pipeline.stages.fetch.engine import make_engine
from openwit.pipeline.stages.fetch.log import HOSTS_FILE, LOG, write_hosts
from openwit.pipeline.stages.fetch.messages import logging_notices
from openwit.pipeline.stages.fetch.retry import RetryChunk, promote, retry_chunks
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.sidecars import carry_query_counts
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import OpenWITError

NAME = "fetch"
VERSION = 3


def run(
    job: Job, settings: FetchSettings, selected: Path, folder: Path, retry_failed: bool = False
) -> tuple[StageManifest, bool]:
    """Runs the stage on a finished select folder.

    Args:
        retry_failed: where the stage is finished already, ask once more for the URLs that failed for reasons that
            pass (`RETRY_LATER`). What they give is merged as if it had come at once.
    """
    load_image_filters(settings)
    promote(folder)
    upstream = StageManifest.load(selected, "select")
    inputs = {"select": stage_input(selected)}
    if settings.blocklist is not None:
        inputs["blocklist"] = _blocklist_sum(Path(settings.blocklist))

    def stage() -> tuple[StageManifest, bool]:
        return run_stage(
            job,
            folder,
            NAME,
            VERSION,
            settings.model_dump(mode="json"),
            inputs,
            lambda: _execute(job, settings, upstream, selected, folder),
            [upstream],
        )

    manifest, did = stage()
    if retry_failed and not did:
        files = [str(path) for path in upstream.paths(selected, "selected")]
        work = RetryChunk(settings, files, inputs_of(upstream), str(folder))
        if retry_chunks(job, folder, _tasks(settings, upstream, selected), work):
            # The chunks are in place; what is missing is the manifest, and that a run of the stage writes.
            manifest, did = stage()
    return manifest, did


def _execute(job: Job, settings: FetchSettings, upstream: StageManifest, selected: Path, folder: Path) -> StageResult:
    make_engine(settings)  # what is wrong with the blocklist or the installation is said before work begins
    files = [str(path) for path in upstream.paths(selected, "selected")]
    work = FetchChunk(settings, files, inputs_of(upstream))
    with logging_notices(folder):
        results = job.run(folder, _tasks(settings, upstream, selected), "Fetch images", "images", work)
    result = StageResult()
    result.add_results(results, [IMAGES_STEP, PAIRS_STEP])
    # Logs and hosts hold times: no two runs write the same bytes, so the manifest names them without their sums.
    logs = [entry.path for entry in result.files if entry.path.startswith(f"{LOG}/")]
    result.files = [entry for entry in result.files if not entry.path.startswith(f"{LOG}/")]
    write_hosts(folder / HOSTS_FILE, [folder / log for log in logs])
    result.extra = {"hosts": HOSTS_FILE, "log": LOG}
    result.files += carry_query_counts(selected, folder)
    return result


def _tasks(settings: FetchSettings, upstream: StageManifest, selected: Path) -> list[Task[HostBuckets]]:
    chunks = plan_chunks(_bucket_counts(upstream.paths(selected, "selected")), settings.chunk)
    return [Task(n, f"{n:05d}", HostBuckets(first, last)) for n, (first, last) in enumerate(chunks)]


def _blocklist_sum(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise OpenWITError(f"blocklist: {path} cannot be read: {error.strerror or error}") from error


def _bucket_counts(files: list[Path]) -> np.ndarray:
    counts = np.zeros(0, np.int64)
    for path in files:
        buckets = pq.read_table(path, columns=["host_bucket"]).column("host_bucket").to_numpy()
        here = np.bincount(buckets, minlength=len(counts)).astype(np.int64)
        here[: len(counts)] += counts
        counts = here
    return counts


def plan_chunks(counts: np.ndarray, target: int) -> list[tuple[int, int]]:
    """Cuts host buckets into runs of about `target` rows.

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

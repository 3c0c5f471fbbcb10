"""Fetch: from selected URLs to decoded, resized images. All URLs of a host belong to one task, for politeness.

Image bytes that a table holds skip the download and pass the same checks.
"""

from pathlib import Path

from openwit.pipeline.common.reasons import unique
from openwit.pipeline.download.status import FetchStatus
from openwit.pipeline.execution.files import STAGE, read_columns
from openwit.pipeline.execution.jobs import Task
from openwit.pipeline.execution.stage import Job, StageResult
from openwit.pipeline.images.process import ImageReason
from openwit.pipeline.stages.base import Inputs
from openwit.pipeline.stages.fetch.candidate_inputs import inputs_of
from openwit.pipeline.stages.fetch.chunk import IMAGES_STEP, PAIRS_STEP
from openwit.pipeline.stages.fetch.demands import CHECKSUM_DIFFERS
from openwit.pipeline.stages.fetch.engine import make_engine
from openwit.pipeline.stages.fetch.grouping import GROUPED_FOLDER, Cell, group_pairs, plan_fetch
from openwit.pipeline.stages.fetch.hosts import HOSTS_FILE, TASK_HOSTS, write_hosts
from openwit.pipeline.stages.fetch.log import LOG
from openwit.pipeline.stages.fetch.messages import relay_worker_messages
from openwit.pipeline.stages.fetch.plan import HostTask
from openwit.pipeline.stages.fetch.retry import RetryTask, chunks_to_retry, retry_chunks
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.fetch.task import FetchTask
from openwit.pipeline.stages.sidecars import copy_query_counts
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.storage.reading import remove_tree
from openwit.schemas.manifest import FileEntry

FETCH_REASONS = unique(
    (reason for reason in FetchStatus.reasons() if reason != str(FetchStatus.SUCCESS)),
    ImageReason.reasons(),
    (CHECKSUM_DIFFERS,),
)
"""Every reason for which an image is dropped."""
_MERGED_HOSTS = f"{STAGE}/merged-hosts"


def retry(job: Job, settings: FetchSettings, inputs: Inputs, folder: Path) -> bool:
    """Retry the transient failures (`RETRY_LATER`) of a finished folder, and merge the new images.

    Returns:
        Whether there was anything to retry; the folder then has no manifest until the stage is run again.
    """
    failed = chunks_to_retry(folder)
    if not failed:
        return False
    selected = inputs.one("selected")
    upstream = selected.stage_manifest()
    tasks, cells = _prepare(job, settings, upstream.paths(selected.folder, "selected"), folder)
    tasks = [task for task in tasks if any(task.payload.first <= chunk < task.payload.end for chunk in failed)]
    retry_chunks(job, folder, tasks, RetryTask(settings, cells, inputs_of(upstream), folder, failed))
    return True


def fetch_images(job: Job, settings: FetchSettings, inputs: Inputs, folder: Path) -> StageResult:
    """Write the images of the selected pairs, chunk by chunk, and the drops with their reasons."""
    selected, upstream = inputs.one("selected").folder, inputs.one("selected").stage_manifest()
    if not settings.web:
        _refuse_web(upstream.paths(selected, "selected"))
    make_engine(settings)  # raises before work begins if the blocklist or the installation is wrong
    tasks, cells = _prepare(job, settings, upstream.paths(selected, "selected"), folder)
    work = FetchTask(settings, cells, inputs_of(upstream))
    with relay_worker_messages(folder):
        results = job.run(folder, tasks, "Fetch images", "images", work)
    remove_tree(folder / GROUPED_FOLDER)
    result = StageResult()
    result.add_results(results, [IMAGES_STEP, PAIRS_STEP])
    # Logs and hosts hold times, so each run writes different bytes: the manifest names them without checksums.
    result.files = [entry for entry in result.files if not _holds_times(entry)]
    hosts = [folder / entry.path for task in results for entry in task.files if _is_in(TASK_HOSTS, entry)]
    write_hosts(folder / HOSTS_FILE, hosts, folder / _MERGED_HOSTS)
    remove_tree(folder / _MERGED_HOSTS)
    result.extra = {"hosts": HOSTS_FILE, "log": LOG}
    result.files += copy_query_counts(selected, folder)
    return result


def _refuse_web(selected: list[Path]) -> None:
    """Refuse pairs whose image would have to be downloaded.

    Raises:
        DataError: there are some.
    """
    rows = held = 0
    for path in selected:
        column = read_columns(path, ["has_bytes"]).column("has_bytes")
        rows, held = rows + len(column), held + column.to_numpy().sum()
    if held < rows:
        raise DataError(
            f"{rows - held:,} of {rows:,} pairs have no image in the inputs, only its URL: add `- fetch: {{}}` to the "
            "recipe, or set fetch.web to true, to download them"
        )


def _prepare(
    job: Job, settings: FetchSettings, selected: list[Path], folder: Path
) -> tuple[list[Task[HostTask]], list[Cell]]:
    """Plan the tasks, and sort the selected pairs by chunk."""
    home = folder / GROUPED_FOLDER
    plan, first_round = plan_fetch(job, home, selected, task=settings.task, chunk=settings.chunk)
    tasks = [Task(n, f"{n:05d}", part) for n, part in enumerate(plan.tasks)]
    return tasks, group_pairs(job, home, plan, first_round)


def _holds_times(entry: FileEntry) -> bool:
    return _is_in(LOG, entry) or _is_in(TASK_HOSTS, entry)


def _is_in(folder: str, entry: FileEntry) -> bool:
    return entry.path.startswith(f"{folder}/")


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

"""Fetch the images of one chunk of hosts: download, check, resize, write; retry after a local network outage."""

import itertools
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.download.backlog import Backlog
from openwit.pipeline.download.downloader import Download, FetchStatus
from openwit.pipeline.download.status import NO_RESPONSE, RESPONDED
from openwit.pipeline.execution.engine import default_workers
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.images.filters import ImageFilters
from openwit.pipeline.images.process import ImageDrop, ProcessedImage
from openwit.pipeline.stages.fetch import FetchPaths
from openwit.pipeline.stages.fetch.candidate_inputs import CandidateInputs
from openwit.pipeline.stages.fetch.engine import FetchEngine, make_engine
from openwit.pipeline.stages.fetch.images import ImageSpill, Pairs, write_images
from openwit.pipeline.stages.fetch.log import FETCH_LOG, LOG, host_name
from openwit.pipeline.stages.fetch.messages import pause_message, post_message
from openwit.pipeline.stages.fetch.outage import (
    NetworkState,
    hosts_of,
    is_cut_off,
    judge,
    one_of_each_host,
    spread,
)
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.schemas.common.errors import NetworkError
from openwit.schemas.common.malloc import keep_freed_memory
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.candidates import DROPS, SELECTED

IMAGES_STEP = "fetch/images"
PAIRS_STEP = "fetch/pairs"
# URLs tried first after a pause; the rest follows if one of them gets a response.
_SAMPLE = 100
_OTHER_HOSTS = 16
# Buffers of one image are reused for the next; those above 16 MiB are returned, and up to 64 MiB kept per thread.
_LARGEST_BUFFER, _KEPT_BYTES = 16 << 20, 64 << 20

ByUrl = dict[str, Pairs]


@dataclass(slots=True)
class FetchResult:
    """The result of one URL: status of the download, and the drop reason with detail, None if its image is kept."""

    status: FetchStatus
    reason: str | None
    detail: str | None
    http_status: int | None = None
    size: int = 0
    seconds: float = 0.0
    attempts: int = 0


@dataclass(frozen=True)
class HostBuckets:
    """A run of host buckets, first and last included."""

    first: int
    last: int


class FetchChunk(FileTask[HostBuckets]):
    """Download, check and resize the images of a run of host buckets."""

    def __init__(self, settings: FetchSettings, selected: list[str], inputs: CandidateInputs) -> None:
        self.settings = settings
        self.selected = selected
        self.inputs = inputs
        self.engine: FetchEngine | None = None
        self.filters: ImageFilters | None = None

    def setup(self) -> None:
        """Read the blocklist, once per worker."""
        keep_freed_memory(_LARGEST_BUFFER, kept_bytes=_KEPT_BYTES)
        self.engine = make_engine(self.settings)
        self.filters = load_image_filters(self.settings)
        self.filters.setup()

    def run(self, task: Task[HostBuckets], folder: Path, stats: TaskStats) -> list[Path]:
        """See the class.

        Raises:
            NetworkError: on every try too few URLs got a response.
        """
        by_url = self.pairs(task)
        web = [url for url, pairs in by_url.items() if not pairs[0]["has_bytes"]]
        with ImageSpill(FetchPaths(folder).images) as images:
            results: dict[str, FetchResult] = {}
            reasons: Counter[str] = Counter()
            stored = self.keep(self._stored(by_url), images, by_url)
            for url, result in itertools.chain(stored, self.fetch_urls(web, images, by_url)):
                results[url] = result
                if result.reason is not None:
                    reasons[result.reason] += 1
                stats.tick(len(results), len(results) / len(by_url), reasons=reasons)
            self._outlast_outage(task, folder, web, results, images, by_url)
            images_path = FetchPaths(folder).images / f"{task.name}.parquet"
            write_images(images_path, images.rows(by_url))
        drops = [drop for url, result in results.items() for drop in drops_of(url, by_url[url], result)]
        count(stats, ((url, len(pairs)) for url, pairs in by_url.items() if results[url].reason is None), drops)
        log = [log_row(url, results[url]) for url in web]
        return [images_path, write_drops(folder, task, drops), write_log(folder, task, log)]

    def pairs(self, task: Task[HostBuckets]) -> ByUrl:
        """Return the selected pairs of the task's buckets by image URL, URLs and pairs in a fixed order."""
        within = [("host_bucket", ">=", task.payload.first), ("host_bucket", "<=", task.payload.last)]
        by_url: ByUrl = {}
        for path in self.selected:
            for row in SELECTED.conform(pq.read_table(cached(as_path(path)), filters=within), path).to_pylist():
                by_url.setdefault(row["url"], []).append(row)
        return {url: sorted(by_url[url], key=lambda p: (p["priority"], p["pair_id"])) for url in sorted(by_url)}

    def fetch_urls(self, urls: Sequence[str], images: ImageSpill, by_url: ByUrl) -> Iterator[tuple[str, FetchResult]]:
        """Download URLs and keep their images; yield the result of each."""
        assert self.engine is not None
        if urls:
            backlog = Backlog() if self.engine.heeds_backlog else None
            yield from self.keep(self.engine.download(urls, backlog), images, by_url, backlog=backlog)

    def keep(
        self, bodies: Iterable[Download], images: ImageSpill, by_url: ByUrl, *, backlog: Backlog | None = None
    ) -> Iterator[tuple[str, FetchResult]]:
        """Decode and resize in threads (Pillow releases the interpreter lock), a limited number at a time.

        Without a backlog this waits when there are too many; with one the source of the bodies sees to their number
        and is never kept waiting, because it also serves the network.
        """
        assert self.engine is not None
        assert self.filters is not None
        threads = default_workers()
        running: dict[Future[ProcessedImage | ImageDrop], Download] = {}
        ended: deque[Future[ProcessedImage | ImageDrop]] = deque()

        def end(future: Future[ProcessedImage | ImageDrop]) -> None:
            ended.append(future)
            if backlog is not None:
                backlog.done()

        with ThreadPoolExecutor(threads) as pool:
            for download in bodies:
                if download.body is None:
                    yield download.url, _fetch_result(download, download.status.value, _detail(download))
                    continue
                check = self.filters.check_of(download.url, [pair["text"] for pair in by_url[download.url]])
                future = pool.submit(self.engine.process, download.body, check)
                running[future] = download
                if backlog is not None:
                    backlog.add()
                elif len(running) >= 4 * threads:
                    wait(running, return_when=FIRST_COMPLETED)
                future.add_done_callback(end)
                while ended:
                    yield _finished(running, ended.popleft(), images)
            while running:
                yield _finished(running, next(iter(running)), images)

    def _stored(self, by_url: ByUrl) -> Iterator[Download]:
        """Yield the image bytes that the input tables hold."""
        stored: dict[str, dict[int, str]] = {}
        for url, pairs in by_url.items():
            if pairs[0]["has_bytes"]:
                stored.setdefault(pairs[0]["archive"], {})[pairs[0]["record_offset"]] = url
        for archive, rows in sorted(stored.items()):
            for row, body in self.inputs.images(archive, rows):
                status = FetchStatus.SUCCESS if body else FetchStatus.EMPTY_BODY
                yield Download(rows[row], status, body=body or None)

    def _outlast_outage(
        self,
        task: Task[HostBuckets],
        folder: Path,
        web: list[str],
        results: dict[str, FetchResult],
        images: ImageSpill,
        by_url: ByUrl,
    ) -> None:
        """Retry, after a pause, the URLs that a local outage may have failed; raise a NetworkError if it lasts."""
        settings = self.settings
        if not settings.min_success:
            return
        for number in range(settings.outage_retries):
            if not self._is_cut_off(task, web, results):
                return
            pause, statuses = settings.outage_pause_s * 2**number, [results[url].status for url in web]
            silent = hosts_of(url for url in web if results[url].status in NO_RESPONSE)
            message = pause_message(task.name, statuses, pause, number + 1, settings.outage_retries, hosts=silent)
            post_message(folder, task.name, number, message)
            time.sleep(pause)
            again = [url for url in web if results[url].status in NO_RESPONSE]
            sample = spread(again, _SAMPLE)
            results.update(self.fetch_urls(sample, images, by_url))
            if any(results[url].status in RESPONDED for url in sample):
                tried = set(sample)
                results.update(self.fetch_urls([url for url in again if url not in tried], images, by_url))
        if self._is_cut_off(task, web, results):
            raise NetworkError(_outage_message(task, [results[url].status for url in web], settings))

    def _is_cut_off(self, task: Task[HostBuckets], web: list[str], results: dict[str, FetchResult]) -> bool:
        statuses = {url: results[url].status for url in web}
        state = judge(statuses, self.settings.min_success)
        if state is NetworkState.DOUBTFUL:
            return is_cut_off(statuses, self._other_hosts(task))
        return state is NetworkState.BROKEN

    def _other_hosts(self, task: Task[HostBuckets]) -> dict[str, FetchStatus]:
        """Return the statuses of a few hosts outside the chunk: if one responds, those of the chunk are dead."""
        assert self.engine is not None
        web = ("has_bytes", "==", False)
        outside = [
            [web, ("host_bucket", "<", task.payload.first)],
            [web, ("host_bucket", ">", task.payload.last)],
        ]
        chosen: list[str] = []
        for path in self.selected:
            urls = pq.read_table(cached(as_path(path)), columns=["url"], filters=outside).column("url").to_pylist()
            chosen = one_of_each_host([*chosen, *sorted(urls)], _OTHER_HOSTS)
            if len(chosen) == _OTHER_HOSTS:
                break
        return {download.url: download.status for download in self.engine.download(chosen)} if chosen else {}


def load_image_filters(settings: FetchSettings) -> ImageFilters:
    """Load the image filters that the recipe names.

    Raises:
        RecipeError: one cannot be loaded or called, or its reason is a status of downloads.
    """
    return ImageFilters(settings.image.filters, taken=tuple(FetchStatus))


def count(stats: TaskStats, kept: Iterable[tuple[str, int]], drops: Sequence[dict[str, Any]]) -> None:
    """Count the funnel lines of a chunk.

    Args:
        kept: URL and number of pairs of each kept image.
        drops: rows of DROPS, for all others.
    """
    for _, pairs in kept:
        for step, n in ((IMAGES_STEP, 1), (PAIRS_STEP, pairs)):
            stats.enter(step, n)
            stats.leave(step, n)
    reasons = {drop["url"]: drop["reason"] for drop in drops}
    for reason in reasons.values():
        stats.enter(IMAGES_STEP)
        stats.drop(IMAGES_STEP, reason)
    for drop in drops:
        stats.enter(PAIRS_STEP)
        stats.drop(PAIRS_STEP, drop["reason"])


def drops_of(url: str, pairs: Pairs, result: FetchResult) -> list[dict[str, Any]]:
    """Return the rows of DROPS for a URL; none if its image is kept."""
    if result.reason is None:
        return []
    return [
        {"pair_id": p["pair_id"], "url": url, "text": p["text"], "reason": result.reason, "detail": result.detail}
        for p in pairs
    ]


def log_row(url: str, result: FetchResult) -> dict[str, Any]:
    """Return a row of FETCH_LOG."""
    return {
        "url": url,
        "host": host_name(url),
        "status": result.reason or FetchStatus.SUCCESS.value,
        "http_status": result.http_status,
        "bytes": result.size,
        "milliseconds": result.seconds * 1000,
        "attempts": result.attempts,
    }


def write_drops(folder: Path, task: Task[HostBuckets], drops: list[dict[str, Any]]) -> Path:
    """Write the drops of a chunk, sorted by URL and pair; return the path."""
    path = FetchPaths(folder).drops / f"{task.name}.parquet"
    drops = sorted(drops, key=lambda drop: (drop["url"], drop["pair_id"]))
    DROPS.write(path, pa.Table.from_pylist(drops, schema=DROPS.arrow))
    return path


def write_log(folder: Path, task: Task[HostBuckets], rows: list[dict[str, Any]]) -> Path:
    """Write the log of a chunk, sorted by URL; return the path."""
    path = folder / LOG / f"{task.name}.parquet"
    rows = sorted(rows, key=lambda row: row["url"])
    FETCH_LOG.write(path, pa.Table.from_pylist(rows, schema=FETCH_LOG.arrow))
    return path


def _finished(
    running: dict[Future[ProcessedImage | ImageDrop], Download],
    future: Future[ProcessedImage | ImageDrop],
    images: ImageSpill,
) -> tuple[str, FetchResult]:
    download, result = running.pop(future), future.result()
    if isinstance(result, ProcessedImage):
        images.add(download.url, result, len(download.body or b""))
        return download.url, _fetch_result(download, None, None)
    return download.url, _fetch_result(download, str(result.reason), result.detail or None)


def _fetch_result(download: Download, reason: str | None, detail: str | None) -> FetchResult:
    size = len(download.body or b"")
    return FetchResult(
        download.status, reason, detail, download.http_status, size, download.seconds, download.attempts
    )


def _detail(download: Download) -> str | None:
    parts = [f"HTTP {download.http_status}" if download.http_status else "", download.detail]
    return ", ".join(part for part in parts if part) or None


def _outage_message(task: Task[HostBuckets], statuses: list[FetchStatus], settings: FetchSettings) -> str:
    silent = [status for status in statuses if status in NO_RESPONSE]
    responded = sum(status in RESPONDED for status in statuses)
    worst = max(sorted(set(silent)), key=silent.count)
    tries = settings.outage_retries + 1
    return (
        f"chunk {task.name}: only {responded} of {responded + len(silent)} URLs got a response ({worst.value}) in "
        f"{tries} {'try' if tries == 1 else 'tries'}, so this machine's network or resolver seems to be "
        "down: fix it and rerun the build; finished chunks are kept "
        "(or set fetch.min_success to 0 to accept the failures)"
    )

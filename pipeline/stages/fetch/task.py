"""Run a fetch task: its chunks as one stream of downloads, a limited number of chunks open at a time."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from openwit.pipeline.download.status import NO_RESPONSE, RESPONDED, Download, FetchStatus
from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.jobs import FileTask, Task, TaskResult, TaskStats
from openwit.pipeline.images.filters import ImageFilters
from openwit.pipeline.stages.fetch import FetchPaths
from openwit.pipeline.stages.fetch.candidate_inputs import CandidateInputs
from openwit.pipeline.stages.fetch.chunk import (
    IMAGES_STEP,
    FetchResult,
    OpenChunk,
    pairs_by_url,
    read_receipt,
    write_chunk,
)
from openwit.pipeline.stages.fetch.demands import CHECKSUM_DIFFERS
from openwit.pipeline.stages.fetch.engine import FetchEngine, make_engine
from openwit.pipeline.stages.fetch.grouping import Cell, ChunkReader, some_urls
from openwit.pipeline.stages.fetch.hosts import write_task_hosts
from openwit.pipeline.stages.fetch.images import ImageSpill
from openwit.pipeline.stages.fetch.log import LOG
from openwit.pipeline.stages.fetch.messages import outage_message, pause_message, post_message
from openwit.pipeline.stages.fetch.outage import (
    NetworkState,
    hosts_of,
    is_cut_off,
    judge,
    one_of_each_host,
    spread,
)
from openwit.pipeline.stages.fetch.plan import HostTask, chunk_name
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.fetch.stream import Batch, ChunkStream
from openwit.schemas.common.errors import NetworkError
from openwit.schemas.common.malloc import keep_freed_memory
from openwit.schemas.manifest import FileEntry
from openwit.schemas.tables.candidates import SELECTED

# URLs tried first after a pause; the rest follows if one of them gets a response.
_SAMPLE = 100
_OTHER_HOSTS, _OTHER_ROW_GROUPS = 16, 64
# Buffers of one image are reused for the next; those above 16 MiB are returned, and up to 64 MiB kept per thread.
_LARGEST_BUFFER, _KEPT_BYTES = 16 << 20, 64 << 20
# Of the images of all open chunks; the rest is in files.
_SPILL_BYTES = 32 << 20


class FetchTask(FileTask[HostTask]):
    """Download, check and resize the images of the hosts of a task.

    Args:
        cells: the selected pairs, sorted by chunk.
        inputs: how to read image bytes that a table holds.
    """

    judged = True
    """Whether a chunk hardly any server of which responded may be a sign of a local outage."""
    whole = True
    """Whether all chunks of a task are fetched, so that its hosts can be summed."""

    def __init__(self, settings: FetchSettings, cells: Sequence[Cell], inputs: CandidateInputs) -> None:
        self.settings = settings
        self.cells = cells
        self.inputs = inputs
        self.engine: FetchEngine | None = None
        self.filters: ImageFilters | None = None

    def setup(self) -> None:
        """Read the blocklist, once per worker."""
        keep_freed_memory(_LARGEST_BUFFER, kept_bytes=_KEPT_BYTES)
        self.engine = make_engine(self.settings)
        self.filters = load_image_filters(self.settings)
        self.filters.setup()

    def run(self, task: Task[HostTask], folder: Path, stats: TaskStats) -> Sequence[FileEntry]:
        """See the class.

        Raises:
            NetworkError: on every try too few URLs got a response.
        """
        with ThreadPoolExecutor(2) as helpers:
            run = _TaskRun(self, task.payload, folder, stats=stats, helpers=helpers)
            try:
                results = run.all()
            finally:
                run.close()
        for result in results:
            stats.add(result)
        files = [entry for result in results for entry in result.files]
        if self.whole:
            logs = [folder / entry.path for entry in files if entry.path.startswith(f"{LOG}/")]
            files.append(file_entry(folder, write_task_hosts(folder, task.name, logs)))
        return files

    def chunks(self, task: HostTask) -> list[int]:
        """Return the chunks that are fetched."""
        return list(range(task.first, task.end))

    def wanted(self, chunk: OpenChunk) -> set[str]:
        """Return the URLs of a chunk that are fetched."""
        return set(chunk.by_url)

    def write(self, folder: Path, chunk: OpenChunk) -> TaskResult:
        """Write the files of a chunk that has ended, and its receipt."""
        return write_chunk(folder, chunk)

    def stored(self, chunk: OpenChunk, wanted: set[str]) -> Iterator[Download]:
        """Yield the image bytes that the input tables hold."""
        rows: dict[str, dict[int, str]] = {}
        for url, pairs in chunk.by_url.items():
            if pairs[0]["has_bytes"] and url in wanted:
                rows.setdefault(pairs[0]["archive"], {})[pairs[0]["record_offset"]] = url
        for archive, urls in sorted(rows.items()):
            for row, body in self.inputs.images(archive, urls):
                status = FetchStatus.SUCCESS if body else FetchStatus.EMPTY_BODY
                yield Download(urls[row], status, body=body or None)

    def other_hosts(self, task: HostTask) -> dict[str, FetchStatus]:
        """Return the statuses of a few hosts of other tasks: if one responds, those of this task are dead."""
        assert self.engine is not None
        chosen: list[str] = []
        for urls in some_urls(self.cells, range(task.first, task.end), _OTHER_ROW_GROUPS):
            chosen = one_of_each_host([*chosen, *urls], _OTHER_HOSTS)
            if len(chosen) == _OTHER_HOSTS:
                break
        return {download.url: download.status for download in self.engine.download(chosen)} if chosen else {}


class _TaskRun:
    """A run of a task. All methods are called in its thread, but for `_read` and what writes."""

    def __init__(
        self, work: FetchTask, task: HostTask, folder: Path, *, stats: TaskStats, helpers: ThreadPoolExecutor
    ) -> None:
        assert work.engine is not None
        assert work.filters is not None
        self._work, self._task, self._folder, self._stats, self._helpers = work, task, folder, stats, helpers
        self._reader = ChunkReader(work.cells)
        self._stream = ChunkStream(work.engine, work.filters, on_result=self._on_result, on_end=self._on_end)
        self._at_once = work.settings.open_chunks if work.engine.heeds_backlog else 1
        self._numbers = work.chunks(task)
        self._todo: deque[int] = deque()
        self._ahead: Future[OpenChunk] | None = None
        self._open: dict[str, OpenChunk] = {}
        self._doubtful: list[OpenChunk] = []
        self._writing: dict[str, Future[TaskResult]] = {}
        self._results: dict[str, TaskResult] = {}
        self._urls = self._pairs = 0
        self._reasons: Counter[str] = Counter()

    def all(self) -> list[TaskResult]:
        """Fetch the chunks that have no receipt; return what each chunk recorded, in their order."""
        for number in self._numbers:
            done = read_receipt(self._folder, chunk_name(number))
            if done is None:
                self._todo.append(number)
            else:
                self._take(chunk_name(number), done)
        while self._todo or self._ahead is not None:
            self._stream.run(self._batches())
            self._outlast_outage()
        while self._writing:
            next(iter(self._writing.values())).result()
            self._reap()
        return [self._results[chunk_name(number)] for number in self._numbers]

    def close(self) -> None:
        """Close the files of chunks that have not ended."""
        for future in self._writing.values():
            future.exception()
        for chunk in self._open.values():
            chunk.images.close()

    def _batches(self) -> Iterator[Batch | None]:
        """Open chunk after chunk, while not too many are open and no outage is suspected."""
        one_by_one = not self._stream.streams
        while not self._doubtful:
            self._reap()
            if self._ahead is None:
                if not self._todo:
                    return
                self._ahead = self._helpers.submit(self._read, self._todo.popleft())
                self._ahead.add_done_callback(lambda _: self._stream.wake())
            if not one_by_one and (len(self._open) >= self._at_once or not self._ahead.done()):
                yield None
                continue
            chunk, self._ahead = self._ahead.result(), None
            self._open[chunk.name] = chunk
            yield self._batch(chunk)
            if one_by_one:
                return

    def _batch(self, chunk: OpenChunk) -> Batch:
        wanted = self._work.wanted(chunk)
        web = [url for url in chunk.web if url in wanted]
        return Batch(chunk, web, self._work.stored(chunk, wanted), len(wanted))

    def _read(self, number: int) -> OpenChunk:
        by_url = pairs_by_url(self._reader.read(number), SELECTED.arrow.names)
        memory = _SPILL_BYTES // self._at_once
        return OpenChunk(chunk_name(number), by_url, ImageSpill(FetchPaths(self._folder).images, memory))

    def _on_result(self, chunk: OpenChunk, url: str, result: FetchResult) -> None:
        if url not in chunk.results:
            self._urls += 1
            self._pairs += len(chunk.by_url[url])
            if result.reason is not None:
                self._reasons[result.reason] += 1
        self._tick()

    def _tick(self) -> None:
        fraction = min(self._pairs / max(self._task.pairs, 1), 1.0)
        self._stats.tick(self._urls, fraction, reasons=self._reasons)

    def _on_end(self, chunk: OpenChunk) -> None:
        floor = self._work.settings.min_success if self._work.judged else 0
        if floor and judge(chunk.statuses(), floor) is not NetworkState.FINE:
            self._doubtful.append(chunk)
        else:
            self._write(chunk)

    def _write(self, chunk: OpenChunk) -> None:
        future = self._helpers.submit(self._work.write, self._folder, chunk)
        self._writing[chunk.name] = future
        future.add_done_callback(lambda _: self._stream.wake())

    def _reap(self) -> None:
        """Take the chunks that have been written."""
        for name in [name for name, future in self._writing.items() if future.done()]:
            self._results[name] = self._writing.pop(name).result()
            self._open.pop(name).images.close()

    def _take(self, name: str, done: TaskResult) -> None:
        """Count a chunk that an earlier run finished."""
        self._results[name] = done
        images = done.steps.get(IMAGES_STEP)
        if images is not None:
            self._urls += images.rows_in
            self._reasons.update(images.reasons)
        self._pairs += sum(counts.rows_in for step, counts in done.steps.items() if step != IMAGES_STEP)
        self._tick()

    def _outlast_outage(self) -> None:
        """Retry, after a pause, the URLs that a local outage may have failed; raise a NetworkError if it lasts."""
        settings = self._work.settings
        chunks, self._doubtful = self._doubtful, []
        for number in range(settings.outage_retries):
            cut_off = [chunk for chunk in chunks if self._is_cut_off(chunk)]
            if not cut_off:
                break
            name, statuses = cut_off[0].name, cut_off[0].statuses()
            silent = hosts_of(url for url, status in statuses.items() if status in NO_RESPONSE)
            pause, tries = settings.outage_pause_s * 2**number, settings.outage_retries
            message = pause_message(name, list(statuses.values()), pause, number + 1, tries, hosts=silent)
            post_message(self._folder, name, number, message)
            time.sleep(pause)
            for chunk in cut_off:
                self._try_again(chunk)
        for chunk in chunks:
            if self._is_cut_off(chunk):
                statuses = chunk.statuses()
                raise NetworkError(outage_message(chunk.name, list(statuses.values()), settings.outage_retries + 1))
        for chunk in chunks:
            self._write(chunk)

    def _try_again(self, chunk: OpenChunk) -> None:
        again = [url for url, status in chunk.statuses().items() if status in NO_RESPONSE]
        sample = spread(again, _SAMPLE)
        self._download(chunk, sample)
        if any(chunk.results[url].status in RESPONDED for url in sample):
            tried = set(sample)
            self._download(chunk, [url for url in again if url not in tried])

    def _download(self, chunk: OpenChunk, urls: list[str]) -> None:
        work = self._work
        assert work.engine is not None
        assert work.filters is not None
        stream = ChunkStream(work.engine, work.filters, on_result=self._on_result, on_end=lambda _: None)
        stream.run([Batch(chunk, urls, size=len(urls))])

    def _is_cut_off(self, chunk: OpenChunk) -> bool:
        statuses = chunk.statuses()
        state = judge(statuses, self._work.settings.min_success)
        if state is NetworkState.DOUBTFUL:
            return is_cut_off(statuses, self._work.other_hosts(self._task))
        return state is NetworkState.BROKEN


def load_image_filters(settings: FetchSettings) -> ImageFilters:
    """Load the image filters that the recipe names.

    Raises:
        RecipeError: one cannot be loaded or called, or its reason is a status of downloads.
    """
    return ImageFilters(settings.image.filters, taken=(*FetchStatus, CHECKSUM_DIFFERS))

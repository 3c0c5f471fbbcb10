"""Download and decode the URLs of several chunks as one stream: a chunk ends when its last URL has ended.

One thread runs the network loop and keeps the results. Images are decoded in other threads (Pillow releases the
interpreter lock), and bytes that a table holds are read in one more, so that the network waits for nobody.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from openwit.pipeline.download.backlog import Backlog
from openwit.pipeline.download.status import Download
from openwit.pipeline.execution.engine import default_workers
from openwit.pipeline.images.filters import ImageFilters
from openwit.pipeline.images.process import ImageDrop, ProcessedImage
from openwit.pipeline.stages.fetch.chunk import FetchResult, OpenChunk, result_of
from openwit.pipeline.stages.fetch.demands import CHECKSUM_DIFFERS, boxes_to_blur, refused_pairs
from openwit.pipeline.stages.fetch.engine import FetchEngine

_BODIES_PER_THREAD = 4
_WAIT_S = 0.25

Decoded = tuple[ProcessedImage | ImageDrop, dict[int, str]]
"""What became of a body, and the pairs that want another (`refused_pairs`)."""


@dataclass(frozen=True)
class Batch:
    """What a stream fetches of a chunk.

    Args:
        chunk: takes the images and results.
        web: URLs to download.
        stored: bodies to read from tables, in another thread.
        size: number of URLs of both.
    """

    chunk: OpenChunk
    web: Sequence[str]
    stored: Iterable[Download] = ()
    size: int = 0


class ChunkStream:
    """Run batches as one stream.

    Args:
        engine: downloads and decodes.
        filters: of images, set up.
        on_result: called for each URL that has ended.
        on_end: called for each chunk whose URLs have all ended; both in the thread of `run`.
    """

    def __init__(
        self,
        engine: FetchEngine,
        filters: ImageFilters,
        *,
        on_result: Callable[[OpenChunk, str, FetchResult], None],
        on_end: Callable[[OpenChunk], None],
    ) -> None:
        self._engine = engine
        self._filters = filters
        self._on_result = on_result
        self._on_end = on_end
        self._threads = default_workers()
        self._backlog = Backlog()
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._decoded: deque[tuple[Future[Decoded], Download, OpenChunk]] = deque()
        self._loads: list[Future[None]] = []
        self._chunk_of: dict[str, OpenChunk] = {}
        self._left: dict[str, int] = {}
        self._decoding = 0

    @property
    def streams(self) -> bool:
        """Return whether a batch may begin before the one before has ended."""
        return self._engine.heeds_backlog

    def wake(self) -> None:
        """Ask the source of batches again. Thread-safe."""
        self._woken.set()
        self._backlog.wake()

    def run(self, batches: Iterable[Batch | None]) -> None:
        """Fetch all batches.

        Args:
            batches: None where there is none at the moment; it is called again after the next event.
        """
        self._stopped.clear()
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                with ThreadPoolExecutor(1) as reader:
                    try:
                        self._run(batches, pool, reader)
                    finally:
                        self._stopped.set()
            finally:
                self._decoded.clear()
                self._loads.clear()
                self._chunk_of.clear()
                self._left.clear()
                self._decoding = 0

    def _run(self, batches: Iterable[Batch | None], pool: ThreadPoolExecutor, reader: ThreadPoolExecutor) -> None:
        for download in self._engine.download(self._urls(batches, pool, reader), self._backlog):
            chunk = self._chunk_of.pop(download.url)
            if download.body is None:
                self._settle(chunk, download.url, result_of(download, download.status.value, _detail(download)))
            else:
                self._backlog.add()
                self._decoding += 1
                self._decode(pool, chunk, download)
            self._collect()
            while not self.streams and self._decoding >= _BODIES_PER_THREAD * self._threads:
                self._wait()
        while self._left:
            self._wait()

    def _wait(self) -> None:
        self._woken.wait(_WAIT_S)
        self._woken.clear()
        self._collect()

    def _urls(
        self, batches: Iterable[Batch | None], pool: ThreadPoolExecutor, reader: ThreadPoolExecutor
    ) -> Iterator[str | None]:
        for batch in batches:
            if batch is None:
                self._collect()
                yield None
                continue
            chunk = batch.chunk
            self._chunk_of.update(dict.fromkeys(batch.web, chunk))
            self._left[chunk.name] = batch.size
            if not batch.size:
                self._end(chunk)
            if batch.size > len(batch.web):
                self._loads.append(reader.submit(self._load, pool, batch))
            yield from batch.web
        while self.streams and self._left:
            self._collect()
            yield None

    def _load(self, pool: ThreadPoolExecutor, batch: Batch) -> None:
        """Hand stored bodies to the decoders, a limited number at a time; runs in another thread."""
        room = threading.Semaphore(_BODIES_PER_THREAD * self._threads)
        for download in batch.stored:
            while not room.acquire(timeout=_WAIT_S):
                if self._stopped.is_set():
                    return
            if self._stopped.is_set():
                return
            self._backlog.add()
            self._decode(pool, batch.chunk, download, done=room.release)

    def _decode(
        self,
        pool: ThreadPoolExecutor,
        chunk: OpenChunk,
        download: Download,
        *,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        pairs, body = chunk.by_url[download.url], download.body

        def end(future: Future[Decoded]) -> None:
            self._decoded.append((future, download, chunk))
            done()
            self._woken.set()
            self._backlog.done()

        def work() -> Decoded:
            if body is None:
                return ImageDrop(download.status, ""), {}
            refused = refused_pairs(pairs, body)
            wanted = [pair for number, pair in enumerate(pairs) if number not in refused]
            if not wanted:
                return ImageDrop(CHECKSUM_DIFFERS, refused[0]), {}
            check = self._filters.check_of(download.url, [pair["text"] for pair in wanted])
            return self._engine.process(body, check, boxes_to_blur(wanted)), refused

        pool.submit(work).add_done_callback(end)

    def _collect(self) -> None:
        """Keep what the other threads have finished."""
        while self._decoded:
            future, download, chunk = self._decoded.popleft()
            self._decoding -= not chunk.by_url[download.url][0]["has_bytes"]
            result, refused = future.result()
            if isinstance(result, ProcessedImage):
                chunk.images.add(download.url, result, len(download.body or b""))
                if refused:
                    chunk.refused[download.url] = refused
                self._settle(chunk, download.url, result_of(download, None, None))
            else:
                reason = result_of(download, str(result.reason), result.detail or None)
                self._settle(chunk, download.url, reason)
        for load in self._loads:
            if load.done():
                load.result()

    def _settle(self, chunk: OpenChunk, url: str, result: FetchResult) -> None:
        self._on_result(chunk, url, result)
        chunk.results[url] = result
        self._left[chunk.name] -= 1
        if not self._left[chunk.name]:
            self._end(chunk)

    def _end(self, chunk: OpenChunk) -> None:
        del self._left[chunk.name]
        self._on_end(chunk)


def _detail(download: Download) -> str | None:
    parts = [f"HTTP {download.http_status}" if download.http_status else "", download.detail]
    return ", ".join(part for part in parts if part) or None

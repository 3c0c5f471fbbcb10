"""Remote WebDataset tars without an index, read as a stream.

Limitations compared with an indexed dataset: samples are shuffled within a window only (shards in a new order each
epoch, several read at once, and a buffer); each process counts its epochs itself, so that with uneven shards a sample
may be seen twice in one epoch of the run and another not at all; and a resumed run finds its position by skipping
whole shards of average size and discarding the rest, so that it continues near the old position, not exactly at it.
No process waits for another, however uneven the shards, since each process's stream is endless.
"""

import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import fsspec
import numpy as np
import xxhash
from webdataset.gopen import gopen
from webdataset.shardlists import expand_urls

from openwit.schemas.common.decompress import MAGIC_BYTES, Plain, compression_of, plain_chunks
from openwit.schemas.common.errors import DataError, NetworkError, OpenWITError
from openwit.schemas.common.tar_members import DAMAGED, NO_END, Forward, Note, Readable, members
from openwit.training.data.remote_reads import TIMEOUT_S
from openwit.training.data.sample_texts import CorruptSampleError, fast_words, texts_of
from openwit.training.data.sampling import Shuffle
from openwit.training.data.sharded import Sample
from openwit.training.data.tar_samples import NO_IMAGE, NO_TEXT, Gathered, Gathering

_TRIES = 3
_AHEAD = 64
_LIVENESS_S = 5.0
_LONGEST_JOIN_S = 2.0


class Streamed(NamedTuple):
    """A sample, or the reason why it cannot be read: exactly one of `sample` and `reason` is set."""

    epoch: int
    key: str
    sample: Sample | None
    reason: str = ""


class TarStream:
    """Remote tars as a source of training samples.

    Args:
        patterns: URLs or brace patterns.
        samples: total number in the tars; defines an epoch and the position to resume at.
        seed: of the order of shards and of the buffer.
        streams: shards that a process reads at once.
        buffer: number of samples from which the next is drawn.
        timeout: seconds without a byte after which the run ends.
    """

    split = "tars"

    def __init__(
        self,
        patterns: Sequence[str],
        samples: int,
        *,
        seed: int,
        streams: int = 4,
        buffer: int = 2000,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self.urls = [url for pattern in patterns for url in _expanded(pattern)]
        self.name = self.urls[0].rpartition("/")[0].rpartition("/")[2] or "tars"
        self.manifest_sha256 = xxhash.xxh3_128_hexdigest("\n".join(self.urls).encode())
        self._samples = samples
        self._seed = seed
        self._streams = streams
        self._buffer = buffer
        self._timeout = timeout

    def __len__(self) -> int:
        return self._samples

    def describe(self) -> str:
        """Return the limitations of streaming, in one line."""
        return (
            f"streaming {len(self.urls)} tars without an index: shuffled only among {self._buffer} samples of "
            f"{self._streams} shards at once, each sample about once per epoch, a resumed run continues near its "
            "position, not exactly at it (an indexed dataset has none of these limits)"
        )

    def read(self, rank: int, world: int, *, consumed: int) -> "Reader":
        """Return an endless stream of this process's samples, beginning at about the `consumed`-th."""
        return Reader(
            self.urls,
            self._samples,
            seed=self._seed,
            streams=self._streams,
            buffer=self._buffer,
            rank=rank,
            world=world,
            consumed=consumed,
            timeout=self._timeout,
        )


def _expanded(pattern: str) -> list[str]:
    return list(expand_urls(pattern)) if not pattern.startswith("pipe:") else [pattern]


class Reader:
    """One process's part of the stream, read by threads until `close` is called.

    The order is a function of (seed, rank, world, streams, buffer), not of how fast the shards arrive: samples are
    taken from the streams in turn. With fewer shards than processes each process reads all of them and keeps its share
    of the samples.
    """

    def __init__(
        self,
        urls: Sequence[str],
        samples: int,
        *,
        seed: int,
        streams: int,
        buffer: int,
        rank: int,
        world: int,
        consumed: int,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self._timeout = timeout
        self._urls = list(urls)
        self._shuffle = Shuffle(len(urls), seed, "shards")
        self._shared = len(urls) < world
        self._rank, self._world = rank, world
        own = len(self._own(0))
        self._streams = min(streams, own)
        self._rng = random.Random(xxhash.xxh3_64_intdigest(f"buffer {rank} {consumed}".encode(), seed=seed))
        self._buffer = buffer
        self._stop = threading.Event()
        self._fruitless = 0
        share = samples / len(urls) / (world if self._shared else 1)
        behind = consumed / self._streams
        skipped = int(behind / share) if share else 0
        rest = int(behind - skipped * share)
        self._progress = [_Progress() for _ in range(self._streams)]
        self._queues: list[queue.Queue[Streamed | OpenWITError]] = [queue.Queue(_AHEAD) for _ in range(self._streams)]
        self._threads = [
            threading.Thread(target=self._fill, args=(number, skipped, rest), daemon=True)
            for number in range(self._streams)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        until = time.monotonic() + _LONGEST_JOIN_S  # one that hangs ends with the process
        for thread in self._threads:
            thread.join(timeout=max(0.0, until - time.monotonic()))

    def __iter__(self) -> Iterator[Streamed]:
        """Yield samples drawn from the buffer, each replaced by the next of the streams; failures as they come."""
        held: list[Streamed] = []
        for streamed in self._merged():
            if streamed.sample is None:
                yield streamed
                continue
            held.append(streamed)
            if len(held) > self._buffer:
                place = min(len(held) - 1, int(self._rng.random() * len(held)))
                held[place], held[-1] = held[-1], held[place]
                yield held.pop()

    def _merged(self) -> Iterator[Streamed]:
        while True:
            for waiting, thread, progress in zip(self._queues, self._threads, self._progress, strict=True):
                found = _next_of(waiting, thread, progress, self._timeout)
                if isinstance(found, OpenWITError):
                    raise found
                yield found

    def _own(self, epoch: int) -> list[str]:
        order = [self._urls[i] for i in self._shuffle.at(epoch, np.arange(len(self._urls))).tolist()]
        return order if self._shared else order[self._rank :: self._world]

    def _fill(self, number: int, skipped: int, rest: int) -> None:
        try:
            for streamed in self._stream(number, skipped, rest):
                if not self._put(number, streamed):
                    return
        except OpenWITError as error:
            self._put(number, error)
        except Exception as error:  # if the thread ended silently, the run would wait for ever
            self._put(number, NetworkError(f"reading data.tars failed: {type(error).__name__}: {error}"))

    def _put(self, number: int, found: "Streamed | OpenWITError") -> bool:
        while not self._stop.is_set():
            try:
                self._queues[number].put(found, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def _stream(self, number: int, skipped: int, rest: int) -> Iterator[Streamed]:
        for epoch, url in self._shards(number, skipped):
            readable = 0
            for row, streamed in enumerate(_read_shard(epoch, url, self._stop, self._progress[number])):
                readable += streamed.sample is not None
                if self._shared and row % self._world != self._rank:
                    continue
                if rest > 0:
                    rest -= 1
                    continue
                yield streamed
            # Counted over all streams, without a lock: it need not be exact to distinguish some dead tars from all.
            self._fruitless = 0 if readable else self._fruitless + 1
            if self._fruitless >= max(3, 2 * self._streams):
                raise DataError(f"{self._fruitless} tars of data.tars in a row gave no sample, the last {url}")

    def _shards(self, number: int, skipped: int) -> Iterator[tuple[int, str]]:
        place = number + skipped * self._streams
        size = len(self._own(0))
        epoch = -1
        own: list[str] = []
        while not self._stop.is_set():
            if place // size != epoch:
                epoch = place // size
                own = self._own(epoch)
            yield epoch, own[place % size]
            place += self._streams


class _Progress:
    """When a stream last gave something, and which one it is."""

    def __init__(self) -> None:
        self.url = "data.tars"
        self.last = time.monotonic()

    def note(self, url: str) -> None:
        self.url, self.last = url, time.monotonic()


def _next_of(
    waiting: "queue.Queue[Streamed | OpenWITError]", thread: threading.Thread, progress: _Progress, timeout: float
) -> "Streamed | OpenWITError":
    """Return what a thread reads next; one that ended without a word, or hangs, is an error, not an endless wait."""
    while True:
        try:
            return waiting.get(timeout=min(_LIVENESS_S, timeout))
        except queue.Empty:
            silent = time.monotonic() - progress.last
            if silent > timeout and waiting.empty():
                return NetworkError(
                    f"{progress.url} has given nothing for {silent:.0f} s (data.remote_timeout: {timeout:g}): run the "
                    "same command to resume"
                )
            if not thread.is_alive() and waiting.empty():
                return NetworkError("reading data.tars stopped: run the same command to resume")


def _open(url: str) -> BinaryIO:
    if url.startswith("pipe:"):
        stream: BinaryIO = gopen(url)
        return stream
    opened: BinaryIO = fsspec.open(url, "rb").open()
    return opened


def _read_shard(epoch: int, url: str, stop: threading.Event, progress: _Progress) -> Iterator[Streamed]:
    """Yield the samples of a tar; a tar that cannot be opened or is cut is one entry with its reason."""
    stream: BinaryIO | None = None
    for attempt in range(_TRIES):
        progress.note(url)
        try:
            stream = _open(url)
            break
        except Exception as error:  # fsspec's backends raise their own errors
            if attempt + 1 == _TRIES or stop.wait(0.2 * 4**attempt):
                yield Streamed(epoch, url, None, f"{url}: {type(error).__name__}: {error}")
                return
    assert stream is not None
    with stream:
        yield from _samples(epoch, url, stream, progress)


def _samples(epoch: int, url: str, stream: BinaryIO, progress: _Progress) -> Iterator[Streamed]:
    failed: list[Streamed] = []
    damage: list[str] = []

    def note(reason: str, about: str) -> None:
        if reason in (DAMAGED, NO_END):
            damage.append(f"{reason}: {about}")

    def left(reason: str, about: str) -> None:
        if reason in (NO_IMAGE, NO_TEXT):
            failed.append(Streamed(epoch, about, None, f"{about}: {reason}"))

    gathering: Gathering[bytes] = Gathering(left, apart=False)
    try:
        archive = Forward(_plain(_Watched(stream, url, progress), note))
        for member in members(archive, note):
            if gathering.kind(member.name) is None or member.target:
                body = b""
            else:
                body = archive[member.offset : member.offset + member.size]
                if len(body) < member.size:
                    damage.append(f"{DAMAGED}: it ends inside {member.name}")
                    break
            for sample in () if member.target else gathering.add(member.name, body, empty=not member.size):
                yield _sample(epoch, sample)
            yield from failed
            failed.clear()
        for sample in gathering.end():
            yield _sample(epoch, sample)
        yield from failed
    except Exception as error:  # fsspec's backends raise their own errors in the middle of a file
        damage.append(f"{type(error).__name__}: {error}")
    if damage:
        yield Streamed(epoch, url, None, f"{url}: {damage[0]}")


def _plain(stream: "_Watched", note: Note) -> Readable:
    """Return the bytes of a stream, decompressed if its first bytes show that it is compressed."""
    head = b""
    while len(head) < MAGIC_BYTES and (part := stream.read(MAGIC_BYTES - len(head))):
        head += part
    compression = compression_of(head)
    whole = _Prefixed(head, stream)
    return whole if compression is None else Plain(plain_chunks(whole, compression, note))


class _Watched:
    """A stream that notes when it gave something."""

    closed = False

    def __init__(self, stream: BinaryIO, url: str, progress: _Progress) -> None:
        self._stream, self._url, self._progress = stream, url, progress

    def read(self, size: int = -1) -> bytes:
        found = self._stream.read(size)
        self._progress.note(self._url)
        return found


class _Prefixed:
    """A stream of which some bytes were read already."""

    closed = False

    def __init__(self, head: bytes, stream: _Watched) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if self._head:
            taken, self._head = self._head[: size if size >= 0 else None], self._head[size:] if size >= 0 else b""
            return taken if size >= 0 else taken + self._stream.read()
        return self._stream.read(size)


def _sample(epoch: int, gathered: Gathered[bytes]) -> Streamed:
    key, parts = gathered
    try:
        texts, repaired = texts_of(key, parts.get("json", b""), parts.get("text", b""))
    except CorruptSampleError as error:
        return Streamed(epoch, key, None, str(error))
    sources = fast_words(parts["json"])[1] if "json" in parts else ()
    sources = sources if len(sources) == len(texts) else ()
    return Streamed(epoch, key, Sample(key, parts["image"], texts, repaired, sources))

"""Read a split of a remote dataset by blocks of shards: whole shards through a bounded cache, or ranges of bytes.

Both have the order of `openwit.training.data.block_order`, and nothing else is needed of the split than its manifest:
the index of a shard comes with the shard, when its block does.
"""

import hashlib
import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest, ShardEntry
from openwit.training.data.block_order import BlockShuffle
from openwit.training.data.remote_reads import Store
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.shard_cache import CachedShard, ShardCache
from openwit.training.data.shard_file import ShardFile, index_of
from openwit.training.data.sharded import Place, Reading, Sample, Shard, ShardRows, announce

_INDEXES = 64


class RemoteSplit:
    """A split at a URL; what both ways of reading share.

    Args:
        store: of the dataset's folder.
        manifest: of the dataset.
        split: name of a split.
        order_name: what the order of samples is called; another order is other training data.
    """

    def __init__(self, store: Store, manifest: DatasetManifest, split: str, *, order_name: str) -> None:
        self.store = store
        self._manifest, self._order_name = manifest, order_name
        self.entries: list[ShardEntry] = manifest.shards_of(split)
        self.shard_counts = [entry.samples for entry in self.entries]
        self.folder = Path(store.url)
        self.split = split
        self.name = manifest.name
        digest = hashlib.sha256(manifest.to_json().encode())
        digest.update(order_name.encode())
        self.manifest_sha256 = digest.hexdigest()
        self._ends = list(accumulate(self.shard_counts))

    def __len__(self) -> int:
        return self._ends[-1]

    def follow(self, order: BlockShuffle, first: int = 0) -> None:
        """Take the order in which the samples will be asked for; `first` is the number of the first shard in it."""

    def key(self, index: int) -> str:
        """Return the key of a sample, without reading the sample."""
        raise NotImplementedError

    def reading(self, places: Sequence[Place]) -> Any:
        """Return a context in which the samples of a batch, (epoch, index) each, can be read by index."""
        raise NotImplementedError

    def sample(self, index: int) -> Sample:
        """Read a sample, its image still encoded."""
        with self.reading([(0, index)]) as read:
            found: Sample = read(index)
            return found

    def close(self) -> None:
        """End what runs beside."""

    def _locate(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._ends, index)
        if index < 0 or number == len(self._ends):
            raise IndexError(index)
        return number, index - (self._ends[number - 1] if number else 0)


class RangedSplit(RemoteSplit):
    """A split of which single samples are read, those of a batch at once; nothing is written to a disk.

    Args:
        store, manifest, split, order_name: see `RemoteSplit`.
        shards: shards in a block; the indexes of two blocks stay in memory.
    """

    def __init__(
        self, store: Store, manifest: DatasetManifest, split: str, *, order_name: str, shards: int = _INDEXES
    ) -> None:
        super().__init__(store, manifest, split, order_name=order_name)
        self._rows: OrderedDict[int, ShardRows] = OrderedDict()
        self._most = 2 * shards
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _ranged, (self.store, self._manifest, self.split, self._order_name, self._most // 2)

    def key(self, index: int) -> str:
        """Return the key of a sample, without reading the sample."""
        number, row = self._locate(index)
        return self._rows_of(number).key(row)

    @contextmanager
    def reading(self, places: Sequence[Place]) -> Iterator[Reading]:
        """Read the samples of a batch."""
        wanted: dict[int, tuple[ShardRows, int]] = {}
        for _, index in places:
            number, row = self._locate(index)
            wanted[index] = self._rows_of(number), row
        parts = [(number, part) for number, (rows, row) in wanted.items() for part in rows.parts(row)]
        paths = {index: self.entries[self._locate(index)[0]].tar.path for index in wanted}
        bodies = self.store.ranges([(paths[index], start, stop) for index, (start, stop) in parts])
        held: dict[int, list[tuple[int, bytes]]] = {index: [] for index in wanted}
        for (index, (start, _)), body in zip(parts, bodies, strict=True):
            held[index].append((start, body))

        def read(index: int) -> Sample:
            rows, row = wanted[index]
            return rows.sample(row, held[index])

        yield read

    def _rows_of(self, number: int) -> ShardRows:
        with self._lock:
            found = self._rows.get(number)
            if found is not None:
                self._rows.move_to_end(number)
                return found
        entry = self.entries[number]
        data = self.store.checked(entry.index)
        found = ShardRows(index_of(data, f"{self.store.url}/{entry.index.path}"))
        with self._lock:
            self._rows[number] = found
            while len(self._rows) > self._most:
                self._rows.popitem(last=False)
        return found


class CachedSplit(RemoteSplit):
    """A split whose shards are fetched whole to a bounded cache, those of the next block while this one is read.

    Args:
        store, manifest, split, order_name: see `RemoteSplit`.
        cache: where the shards are kept.
        streams: shards fetched ahead at once.
    """

    def __init__(
        self,
        store: Store,
        manifest: DatasetManifest,
        split: str,
        *,
        order_name: str,
        cache: ShardCache,
        streams: int,
    ) -> None:
        super().__init__(store, manifest, split, order_name=order_name)
        self._cache = cache
        identity = hashlib.sha256(manifest.to_json().encode()).hexdigest()[:12]
        self._shards = [
            CachedShard(store, entry.tar, entry.index, f"{identity}-{split}-{entry.name}") for entry in self.entries
        ]
        self._order: BlockShuffle | None = None
        self._first = 0
        self._block = (0, -1)
        self._window: frozenset[int] = frozenset()
        self._coming: list[int] = []
        self._rows: OrderedDict[int, ShardRows] = OrderedDict()
        self._lock = threading.Condition()
        self._queue: deque[int] = deque()
        self._fetched: set[int] = set()
        self._closed = False
        self._streams = streams
        self._threads: list[threading.Thread] = []

    def __reduce__(self) -> tuple[Any, ...]:
        what = self.store, self._manifest, self.split, self._order_name
        return _cached, (*what, self._cache, self._streams, self._order, self._first)

    def follow(self, order: BlockShuffle, first: int = 0) -> None:
        """Take the order in which the samples will be asked for; `first` is the number of the first shard in it."""
        with self._lock:
            self._order, self._first = order, first
            self._block, self._closed, self._threads, self._fetched = (0, -1), False, [], set()

    def key(self, index: int) -> str:
        """Return the key of a sample, without reading its image."""
        number, row = self._locate(index)
        with self._opened(number) as (_, rows):
            return rows.key(row)

    @contextmanager
    def reading(self, places: Sequence[Place]) -> Iterator[Reading]:
        """Read the samples of a batch, shard by shard; the first batch of a block starts to fetch the next one.

        Only one shard is open at a time, so that batches never wait for one another.
        """
        of_shard: dict[int, list[tuple[int, int]]] = {}
        for epoch, index in places:
            number, row = self._locate(index)
            if number not in of_shard:
                self._advance(epoch, number)
            of_shard.setdefault(number, []).append((index, row))
        self._look_ahead()
        held: dict[int, Sample | CorruptSampleError] = {}
        for number, wanted in sorted(of_shard.items()):
            with self._opened(number) as (file, rows):
                announce([(Shard.of(file, rows), row) for _, row in wanted])
                for index, row in wanted:
                    try:
                        held[index] = rows.read(row, file.fd)
                    except CorruptSampleError as error:
                        held[index] = error

        def read(index: int) -> Sample:
            found = held[index]
            if isinstance(found, CorruptSampleError):
                raise found
            return found

        yield read

    def close(self) -> None:
        """End fetching ahead."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            self._window = frozenset()
            self._lock.notify_all()

    def _advance(self, epoch: int, number: int) -> None:
        order = self._order
        if order is None:
            return
        block = order.block_of(epoch, number + self._first)
        with self._lock:
            if (epoch, block) <= self._block:
                return
            self._block = (epoch, block)
            following = (epoch, block + 1) if block + 1 < order.blocks else (epoch + 1, 0)
            own = range(self._first, self._first + len(self._shards))
            coming = [
                int(shard) - self._first
                for each in (self._block, following)
                for shard in order.shards(*each)
                if shard in own
            ]
            self._window = frozenset(coming)
            self._coming = coming
            self._fetched &= self._window

    def _look_ahead(self) -> None:
        with self._lock:
            if self._order is None or self._closed:
                return
            self._queue = deque(number for number in self._coming if number not in self._fetched)
            if self._queue and len(self._threads) < self._streams:
                for _ in range(self._streams - len(self._threads)):
                    thread = threading.Thread(target=self._fetch_ahead, daemon=True, name="shards ahead")
                    self._threads.append(thread)
                    thread.start()
            self._lock.notify_all()

    def _fetch_ahead(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return
                number = self._queue.popleft()
                if number in self._fetched:
                    continue
                self._fetched.add(number)
            try:
                file = self._cache.open(self._shards[number], self._names, wanted=False)
            except (OpenWITError, OSError):
                file = None  # said by the batch that needs it
            if file is not None:
                file.close()  # another process may need its room now
            else:
                with self._lock:
                    self._fetched.discard(number)

    def _names(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._shards[number].name for number in self._window)

    @contextmanager
    def _opened(self, number: int) -> Iterator[tuple[ShardFile, ShardRows]]:
        shard = self._shards[number]
        file = self._cache.open(shard, self._names, wanted=True)
        assert file is not None
        try:
            with self._lock:
                rows = self._rows.pop(number, None)
            if rows is None:
                rows = ShardRows(self._cache.rows(shard))
            with self._lock:
                self._rows[number] = rows
                while len(self._rows) > max(_INDEXES, len(self._window)):
                    self._rows.popitem(last=False)
            yield file, rows
        finally:
            file.close()


def _ranged(store: Store, manifest: DatasetManifest, split: str, name: str, shards: int) -> RangedSplit:
    return RangedSplit(store, manifest, split, order_name=name, shards=shards)


def _cached(
    store: Store,
    manifest: DatasetManifest,
    split: str,
    name: str,
    cache: ShardCache,
    streams: int,
    order: BlockShuffle | None,
    first: int,
) -> CachedSplit:
    made = CachedSplit(store, manifest, split, order_name=name, cache=cache, streams=streams)
    if order is not None:
        made.follow(order, first)
    return made

"""Open the samples that the `data` section names, and the loader for them."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.wording import counted
from openwit.training.config import DataSettings
from openwit.training.config.data import SOURCES, is_remote
from openwit.training.config.zoo import InputSpec
from openwit.training.data.augment import finish_of
from openwit.training.data.block_order import BlockShuffle
from openwit.training.data.captioned_files import captioned_folder, captioned_table
from openwit.training.data.datasets import open_datasets, open_held_out
from openwit.training.data.loader import Batch, BatchMaker, Loader, Preparation
from openwit.training.data.mixture import Mixture, WeightedPlan
from openwit.training.data.parts import PartLoader, StepLoader, Task, WholeBatches, tasks_of
from openwit.training.data.remote_blocks import RemoteSplit
from openwit.training.data.remote_dataset import remote_manifest
from openwit.training.data.remote_reads import Store
from openwit.training.data.remote_tars import Reader, Streamed, TarStream
from openwit.training.data.sampling import BatchPlan, Plan, bounds
from openwit.training.data.sharded import Dataset, Sample, Shards
from openwit.training.data.tar_index import TarDataset, local_tars
from openwit.training.tokenizer.bpe import Tokenizer

Source = Dataset | TarStream
"""Training data. Both have `name`, `split`, `manifest_sha256` and a length: the samples of an epoch."""


class BatchLoader(Protocol):
    """Batches in order, as a context manager."""

    def __enter__(self) -> "BatchLoader": ...
    def __exit__(self, *_: object) -> None: ...
    def __iter__(self) -> Iterator[Batch]: ...
    def __next__(self) -> Batch: ...


def open_source(data: DataSettings, *, seed: int, report: Callable[[str], None]) -> Source:
    """Open the samples that the settings name.

    Args:
        data: the settings.
        seed: of the order of streamed shards.
        report: receives sentences on what is copied, indexed or streamed, and what that costs.

    Raises:
        OpenWITError: the data are missing, damaged or unreachable.
    """
    finish_of(data)  # your own functions: what cannot be loaded ends the run now
    source = _open(data, seed=seed, report=report)
    if len(source) < data.batch_size:
        report(
            f"{source.name}/{source.split} holds {counted(len(source), 'sample')}, fewer than data.batch_size "
            f"({data.batch_size}): a batch then has an image several times, each time a wrong negative of itself"
        )
    return source


def _open(data: DataSettings, *, seed: int, report: Callable[[str], None]) -> Source:
    if data.datasets is not None:
        shares = [(share.dataset, share.split) for share in data.datasets]
        return Mixture(open_datasets(shares, data, report=report))
    if data.tars is not None and not is_remote(data.tars[0]):
        local = TarDataset(
            local_tars(data.tars),
            cache=None if data.cache is None else data.cache / "tars",
            cache_bytes=data.cache_bytes,
            report=report,
        )
        report(local.describe())
        return local
    if data.tars is not None:
        assert data.samples is not None
        return _stream(data, data.tars, data.samples, seed=seed, report=report)
    if data.table is not None:
        return captioned_table(data.table, image=data.image_column, caption=data.caption_column, report=report)
    if data.folder is not None:
        return captioned_folder(data.folder, class_caption=data.class_caption, report=report)
    assert data.dataset is not None
    if isinstance(data.dataset, str) and data.remote == "stream":
        store = Store(data.dataset, timeout=data.remote_timeout)
        manifest = remote_manifest(store)
        if manifest.formats() != ["webdataset"]:
            raise RecipeError(
                f"{data.dataset} is no WebDataset, and data.remote stream reads tars: choose copy or blocks"
            )
        shards = manifest.shards_of(data.split)
        urls = [f"{store.url}/{shard.tar.path}" for shard in shards]
        return _stream(data, urls, sum(shard.samples for shard in shards), seed=seed, report=report)
    return open_datasets([(data.dataset, data.split)], data, report=report)[0]


def held_out_source(data: DataSettings, split: str) -> Dataset:
    """Open the split to evaluate on: of `dataset`, or of the first of `datasets`.

    Raises:
        RecipeError: the samples come from a source without splits or without random access.
        DataError: there is no such split.
    """
    where = data.datasets[0].dataset if data.datasets is not None else data.dataset
    if where is None:
        named = next(name for name in SOURCES if getattr(data, name) is not None)
        raise RecipeError(f"data.{named} has no splits")
    if isinstance(where, str) and data.remote == "stream":
        raise RecipeError(f"{where} is streamed, and evaluation needs random access: set data.cache, or data.remote")
    return open_held_out(where, split, data)


def _stream(
    data: DataSettings, tars: list[str], samples: int, *, seed: int, report: Callable[[str], None]
) -> TarStream:
    stream = TarStream(
        tars, samples, seed=seed, streams=data.streams, buffer=data.shuffle_buffer, timeout=data.remote_timeout
    )
    report(stream.describe())
    return stream


def open_loader(
    source: Source,
    data: DataSettings,
    *,
    inputs: InputSpec,
    tokenizer: Tokenizer,
    seed: int,
    start: int,
    total: int | None,
    rank: int = 0,
    world: int = 1,
    pinned: bool = False,
) -> BatchLoader:
    """Return the batches of one process, beginning at a step.

    Args:
        source: of `open_source`.
        data: the settings it was opened with.
        inputs: image size and context length.
        tokenizer: texts to ids.
        seed: of order, captions and crops.
        start: first step.
        total: samples in the whole run; None if the clock ends it.
        rank, world: number of this process, and number of processes.
        pinned: see `openwit.training.data.loader.Preparation`.
    """
    if isinstance(source, TarStream):
        preparation = Preparation(data, inputs=inputs, tokenizer=tokenizer, seed=seed, pinned=pinned)
        return StreamLoader(source, preparation, start=start, total=total, rank=rank, world=world)
    maker = _maker(source, data, inputs, tokenizer, seed, total, rank, world, pinned)
    return Loader(maker, start, workers=data.workers, prefetch=data.prefetch)


def open_steps(
    source: Source,
    data: DataSettings,
    *,
    chunk: int | None,
    inputs: InputSpec,
    tokenizer: Tokenizer,
    seed: int,
    start: int,
    total: int | None,
    rank: int = 0,
    world: int = 1,
    pinned: bool = False,
) -> StepLoader:
    """Return the batches of one process in parts of `chunk` samples, prepared one by one; None: each as a whole.

    All other arguments are those of `open_loader`.
    """
    if chunk is None:
        whole = open_loader(
            source,
            data,
            inputs=inputs,
            tokenizer=tokenizer,
            seed=seed,
            start=start,
            total=total,
            rank=rank,
            world=world,
            pinned=pinned,
        )
        return WholeBatches(whole)
    begin, stop = bounds(data.batch_size, rank, world)
    # A batch ahead, as a step takes no more; or more of smaller batches.
    ahead = max(data.prefetch, -(-(stop - begin) // chunk))
    if isinstance(source, TarStream):
        preparation = Preparation(data, inputs=inputs, tokenizer=tokenizer, seed=seed, pinned=pinned)
        stream = StreamLoader(source, preparation, start=start, total=total, rank=rank, world=world)
        return PartLoader(stream.tasks(chunk), workers=max(1, data.workers), ahead=ahead, close=stream.close)
    maker = _maker(source, data, inputs, tokenizer, seed, total, rank, world, pinned)
    return PartLoader(tasks_of(maker, start, chunk), workers=data.workers, ahead=ahead, close=maker.close)


def _maker(
    source: Dataset,
    data: DataSettings,
    inputs: InputSpec,
    tokenizer: Tokenizer,
    seed: int,
    total: int | None,
    rank: int,
    world: int,
    pinned: bool,
) -> BatchMaker:
    return BatchMaker(
        source,
        plan_of(source, data, seed=seed, total=total),
        settings=data,
        inputs=inputs,
        tokenizer=tokenizer,
        seed=seed,
        rank=rank,
        world=world,
        pinned=pinned,
        processes=data.workers if data.workers_in == "processes" else 0,
    )


def plan_of(source: Dataset, data: DataSettings, *, seed: int, total: int | None) -> Plan:
    """Return the plan that assigns samples to steps: one shuffle over all, or several by weight."""
    weights = [share.weight for share in data.datasets or [] if share.weight is not None]
    width = data.block_shards
    if isinstance(source, Mixture) and weights:
        sizes = [len(part) for part in source.parts]
        orders: list[BlockShuffle | None] = []
        for number, part in enumerate(source.parts):
            order = None
            if isinstance(part, RemoteSplit):
                order = BlockShuffle(part.shard_counts, seed, f"dataset {number}", shards=width)
                part.follow(order)
            orders.append(order)
        return WeightedPlan(sizes, weights, data.batch_size, seed, total, orders)
    return BatchPlan(len(source), data.batch_size, seed, total, _order_of(source, seed, width))


def _order_of(source: Dataset, seed: int, width: int) -> BlockShuffle | None:
    """Return an order by blocks over all shards if some are remote; None for a shuffle of all samples."""
    parts = source.parts if isinstance(source, Mixture) else [source]
    remote = [part for part in parts if isinstance(part, RemoteSplit)]
    if not remote:
        return None
    counts = [part.shard_counts for part in parts if isinstance(part, RemoteSplit | Shards)]
    order = BlockShuffle([count for of_part in counts for count in of_part], seed, shards=width)
    first = 0
    for part, of_part in zip(parts, counts, strict=True):
        if isinstance(part, RemoteSplit):
            part.follow(order, first)
        first += len(of_part)
    return order


class StreamLoader:
    """Batches of a stream, prefetched; every process ends at the same step, and none waits for another.

    Args:
        stream: the tars.
        preparation: turns samples into batches.
        start, total, rank, world: as for `open_loader`.
    """

    def __init__(
        self, stream: TarStream, preparation: Preparation, *, start: int, total: int | None, rank: int, world: int
    ) -> None:
        data = preparation.settings
        self._preparation = preparation
        self._batch_size = data.batch_size
        self._total = total
        self._rank, self._world = rank, world
        self._next = start
        begin, stop = bounds(data.batch_size, rank, world)
        self._reader: Reader = stream.read(rank, world, consumed=start * (stop - begin))
        self._samples = iter(self._reader)
        self._pool = ThreadPoolExecutor(max(1, data.workers), thread_name_prefix="loader")
        self._ahead = max(data.prefetch, data.workers)
        self._pending: deque[Future[Batch]] = deque()

    def __enter__(self) -> "StreamLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        self._reader.close()
        self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while len(self._pending) < self._ahead and (seen := self._seen(self._next)):
            self._next += 1
            start, stop = bounds(seen, self._rank, self._world)
            self._pending.append(self._pool.submit(self._part(stop - start, seen)))
        if not self._pending:
            raise StopIteration
        return self._pending.popleft().result()

    def tasks(self, size: int) -> Iterator[Task]:
        """Yield the parts of every step, each of `size` samples but the last of a step; instead of iterating."""
        while seen := self._seen(self._next):
            start, stop = bounds(seen, self._rank, self._world)
            for at in range(start, max(stop, start + 1), size):
                yield Task(self._next, self._part(min(size, stop - at), seen))
            self._next += 1

    def _seen(self, step: int) -> int:
        if self._total is None:
            return self._batch_size
        return max(0, min(self._batch_size, self._total - step * self._batch_size))

    def _part(self, samples: int, seen: int) -> Callable[[], Batch]:
        """Read samples of the stream; return a function that prepares them."""
        readable: list[Streamed] = []
        corrupt: dict[str, str] = {}
        while len(readable) + len(corrupt) < samples:
            streamed = next(self._samples)
            if streamed.sample is None:
                corrupt[streamed.key] = streamed.reason
            else:
                readable.append(streamed)
        reads = [_reader_of(streamed) for streamed in readable]
        return partial(self._preparation.batch, reads, seen, corrupt)


def _reader_of(streamed: Streamed) -> Callable[[], tuple[int, Sample]]:
    sample = streamed.sample
    assert sample is not None
    return lambda: (streamed.epoch, sample)

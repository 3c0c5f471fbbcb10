"""Open datasets of folders and URLs, each in the way that the settings and its size allow."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.manifest import DatasetManifest
from openwit.training.config import DataSettings
from openwit.training.data.block_order import largest_blocks
from openwit.training.data.remote_blocks import CachedSplit, RangedSplit
from openwit.training.data.remote_dataset import cached_dataset, remote_manifest
from openwit.training.data.remote_reads import Store
from openwit.training.data.shard_cache import ShardCache
from openwit.training.data.sharded import Dataset, ShardedDataset

Named = tuple[Path | str, str]
"""Folder or URL of a dataset, and a split."""


def open_datasets(named: Sequence[Named], data: DataSettings, *, report: Callable[[str], None]) -> list[Dataset]:
    """Open splits that are trained on together; those that are cached share the cache and its bound.

    Args:
        named: the splits.
        data: how remote ones are read.
        report: receives sentences on what is copied or read in blocks.

    Raises:
        OpenWITError: one is missing, damaged or unreachable, or the cache is too small.
    """
    splits = [_Remote(url, split, data) if isinstance(url, str) else None for url, split in named]
    ways = _ways([split for split in splits if split is not None], data)
    cached = [split for split in splits if split is not None and ways[split] == "blocks"]
    cache = _block_cache(cached, data) if cached else None
    copies = len(named) > 1
    found: list[Dataset] = []
    for (where, name), split in zip(named, splits, strict=True):
        if split is None:
            found.append(ShardedDataset(Path(where), name))
        elif ways[split] == "copy":
            found.append(split.copied(apart=copies, report=report))
        else:
            found.append(split.in_blocks(cache if ways[split] == "blocks" else None, report=report))
    return found


def open_held_out(where: Path | str, split: str, data: DataSettings) -> Dataset:
    """Open a split to evaluate on: copied where the training split is, else read by ranges.

    Raises:
        OpenWITError: it is missing, damaged or unreachable.
    """
    if not isinstance(where, str):
        return ShardedDataset(where, split)
    trained = data.split if data.datasets is None else data.datasets[0].split
    remote = _Remote(where, trained, data)
    if _ways([remote], data)[remote] == "copy":
        return _Remote(where, split, data).copied(apart=data.datasets is not None, report=lambda _: None)
    return RangedSplit(remote.store, remote.manifest, split, order_name="held out")


class _Remote:
    """A split at a URL before it is opened."""

    def __init__(self, url: str, split: str, data: DataSettings) -> None:
        self.url, self.split, self._data = url, split, data
        self.store = Store(url, timeout=data.remote_timeout)
        self.manifest: DatasetManifest = remote_manifest(self.store)
        self.sizes = [shard.tar.bytes + shard.index.bytes for shard in self.manifest.shards_of(split)]

    def copied(self, *, apart: bool, report: Callable[[str], None]) -> ShardedDataset:
        data = self._data
        assert data.cache is not None
        folder = data.cache / hashlib.sha256(self.url.encode()).hexdigest()[:16] if apart else data.cache
        return cached_dataset(
            self.url,
            self.split,
            cache=folder,
            max_bytes=data.cache_bytes,
            report=report,
            timeout=data.remote_timeout,
        )

    def in_blocks(self, cache: ShardCache | None, *, report: Callable[[str], None]) -> Dataset:
        data = self._data
        order = f"blocks of {data.block_shards}"
        how = "by ranges of bytes" if cache is None else f"through {cache.folder}, at most {data.cache_bytes:,} bytes"
        report(
            f"reading {self.url} {how}: shuffled within blocks of {data.block_shards} of its {len(self.sizes)} "
            "shards, which come in a new order each epoch"
        )
        if cache is None:
            return RangedSplit(self.store, self.manifest, self.split, order_name=order, shards=data.block_shards)
        return CachedSplit(self.store, self.manifest, self.split, order_name=order, cache=cache, streams=data.streams)


def _ways(splits: Sequence[_Remote], data: DataSettings) -> dict[_Remote, str]:
    """Return how each split is read; if one is not copied because not all fit, none is."""
    if data.remote != "auto":
        return dict.fromkeys(splits, data.remote)
    if data.cache is None:
        return dict.fromkeys(splits, "ranges")
    fit = sum(sum(split.sizes) for split in splits) <= data.cache_bytes
    return dict.fromkeys(splits, "copy" if fit else "blocks")


def _block_cache(splits: Sequence[_Remote], data: DataSettings) -> ShardCache:
    assert data.cache is not None
    weighted = any(share.weight is not None for share in data.datasets or [])
    if weighted:
        needed = sum(largest_blocks(split.sizes, data.block_shards) for split in splits)
    else:
        needed = largest_blocks([size for split in splits for size in split.sizes], data.block_shards)
    if needed > data.cache_bytes:
        held = " and ".join(f"{split.split!r} of {split.url}" for split in splits)
        raise RecipeError(
            f"two blocks of {data.block_shards} shards of split {held} hold {needed:,} bytes, more than "
            f"data.cache_bytes allows ({data.cache_bytes:,}): raise it, lower data.block_shards, or set data.remote: "
            "ranges"
        )
    return ShardCache(data.cache / "blocks", data.cache_bytes)

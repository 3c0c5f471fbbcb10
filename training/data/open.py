"""Open a dataset by path or URL. Needs no torch."""

import hashlib
import logging
import os
from pathlib import Path

from openwit.training.data.remote_dataset import cached_dataset
from openwit.training.data.sharded import ShardedDataset, Transform

logger = logging.getLogger(__name__)


def open_dataset(
    path_or_url: str | Path,
    *,
    split: str = "train",
    transform: Transform | None = None,
    cache: str | Path | None = None,
    max_bytes: int = 100_000_000_000,
) -> ShardedDataset:
    """Open a split of a dataset as a sequence of examples.

    Args:
        path_or_url: dataset folder, or its URL, whose shards are copied to `cache` first.
        split: name of a split.
        transform: applied to each image, such as `load_model(...).preprocess`; None keeps PIL images.
        cache: local folder for the shards of a URL; None: below the user's cache folder (`$XDG_CACHE_HOME`).
        max_bytes: upper limit of what is copied.

    Raises:
        DataError: there is no dataset or split, or files do not match the manifest.
        NetworkError: a file cannot be copied.
        TypeError: `path_or_url` is no path.
        RecipeError: the split is larger than `max_bytes`, or `cache` holds another dataset.

    Example:
        >>> dataset = open_dataset("out/demo/dataset", split="val")
        >>> len(dataset), dataset[0].texts, dataset[0].image.size, dataset[0].metadata["url"]
    """
    if not isinstance(path_or_url, str | Path):
        raise TypeError(f"open_dataset takes a folder or a URL, got {type(path_or_url).__name__}")
    if "://" not in str(path_or_url):
        return ShardedDataset(Path(path_or_url), split, transform=transform)
    url = str(path_or_url)
    folder = _default_cache(url) if cache is None else Path(cache)
    dataset = cached_dataset(url, split, cache=folder, max_bytes=max_bytes, report=logger.info)
    return ShardedDataset(dataset.folder, split, transform=transform)


def _default_cache(url: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "openwit" / hashlib.sha256(url.encode()).hexdigest()[:16]

"""Open an OpenWIT dataset at a URL: its shards are copied to a local folder before they are mapped.

The whole split must fit under the byte limit, and it is copied before the first step; files that are there already are
not copied again. After that it is used like a local dataset. A split that does not fit is read block by block
(`openwit.training.data.remote_blocks`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.locks import lock_file
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, FileEntry
from openwit.training.data.remote_reads import TIMEOUT_S, Store
from openwit.training.data.sharded import ShardedDataset


def remote_manifest(store: Store) -> DatasetManifest:
    """Read the manifest of a dataset at a URL.

    Raises:
        NetworkError: it cannot be read.
        DataError: it is not a manifest, or each image is a file of its own.
    """
    manifest = DatasetManifest.parse(store.whole(MANIFEST_NAME), f"{store.url}/{MANIFEST_NAME}")
    if "files" in manifest.formats():
        raise DataError(
            f"{store.url} has the format files, which is read from a local folder only: copy it, or use webdataset or "
            "parquet"
        )
    return manifest


def cached_dataset(
    url: str,
    split: str,
    *,
    cache: Path,
    max_bytes: int,
    report: Callable[[str], None],
    timeout: float = TIMEOUT_S,
) -> ShardedDataset:
    """Copy the missing files of a split to `cache` and open it there.

    Args:
        url: folder of the dataset.
        split: name of a split.
        cache: local folder, for this dataset only; several processes may share it, one of them copies.
        max_bytes: upper limit of the split's size.
        report: receives a sentence on what is copied.
        timeout: seconds that one attempt of one read may take.

    Raises:
        RecipeError: the split is larger than the limit, or the folder holds another dataset.
        NetworkError: a file cannot be copied.
        DataError: a file does not have the checksum of the manifest.
    """
    store = Store(url, timeout=timeout)
    manifest = remote_manifest(store)
    files = [file for shard in manifest.shards_of(split) for file in (shard.tar, shard.index)]
    total = sum(file.bytes for file in files)
    if total > max_bytes:
        raise RecipeError(
            f"split {split!r} of {url} holds {total:,} bytes, more than data.cache_bytes allows ({max_bytes:,}): "
            "raise it, or set data.remote: blocks"
        )
    with _locked(cache):
        if (cache / MANIFEST_NAME).is_file():
            if DatasetManifest.load(cache) != manifest:
                raise RecipeError(f"data.cache {cache} holds another dataset than {url} is now: name another folder")
        else:
            manifest.save(cache)
        missing = [file for file in files if not _is_complete(cache, file)]
        if missing:
            report(
                f"copying {len(missing)} files, {sum(file.bytes for file in missing):,} bytes, from {url} to {cache}"
            )
        for file in missing:
            with atomic_path(cache / file.path) as temporary:
                store.copy(file, temporary)
    return ShardedDataset(cache, split)


def _is_complete(folder: Path, file: FileEntry) -> bool:
    # A file gets its name only after it was copied completely and its checksum was correct.
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.bytes


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder, so that one process at a time runs the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        lock_file(lock, wait=True)
        yield

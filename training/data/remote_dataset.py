"""Open an OpenWIT dataset at a URL: its shards are copied to a local folder before they are mapped.

The whole split must fit under the byte limit, and it is copied before the first step; files that are there already are
not copied again. After that it is used like a local dataset. A split that does not fit must be streamed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from openwit.schemas.common.atomic import atomic_path, sha256_of
from openwit.schemas.common.errors import DataError, NetworkError, OpenWITError, RecipeError
from openwit.schemas.common.locks import lock_file
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, FileEntry
from openwit.training.data.sharded import ShardedDataset

_CHUNK = 1 << 22


def remote_manifest(url: str) -> DatasetManifest:
    """Read the manifest of a dataset at a URL.

    Raises:
        NetworkError: it cannot be read.
        DataError: it is not a manifest.
    """
    where = f"{url.rstrip('/')}/{MANIFEST_NAME}"
    try:
        with fsspec.open(where, "rb") as file:
            text: bytes = file.read()
    except Exception as error:  # fsspec's backends raise their own errors
        raise NetworkError(f"{where} cannot be read: {type(error).__name__}: {error}") from error
    return DatasetManifest.parse(text, where)


def cached_dataset(
    url: str, split: str, *, cache: Path, max_bytes: int, report: Callable[[str], None]
) -> ShardedDataset:
    """Copy the missing files of a split to `cache` and open it there.

    Args:
        url: folder of the dataset.
        split: name of a split.
        cache: local folder, for this dataset only; several processes may share it, one of them copies.
        max_bytes: upper limit of the split's size.
        report: receives a sentence on what is copied.

    Raises:
        RecipeError: the split is larger than the limit, or the folder holds another dataset.
        NetworkError: a file cannot be copied.
        DataError: a file does not have the checksum of the manifest.
    """
    manifest = remote_manifest(url)
    files = [file for shard in manifest.shards_of(split) for file in (shard.tar, shard.index)]
    total = sum(file.bytes for file in files)
    if total > max_bytes:
        raise RecipeError(
            f"split {split!r} of {url} holds {total:,} bytes, more than data.cache_bytes allows ({max_bytes:,}): "
            "raise it, or leave data.cache out to stream the shards"
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
            _copy(f"{url.rstrip('/')}/{file.path}", cache / file.path, file)
    return ShardedDataset(cache, split)


def _is_complete(folder: Path, file: FileEntry) -> bool:
    # A file gets its name only after it was copied completely and its checksum was correct.
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.bytes


def _copy(url: str, target: Path, file: FileEntry) -> None:
    try:
        with atomic_path(target) as temporary:
            with fsspec.open(url, "rb") as source, temporary.open("wb") as out:
                while chunk := source.read(_CHUNK):
                    out.write(chunk)
            if sha256_of(temporary) != file.sha256:
                raise DataError(f"{url} does not have the checksum of its manifest: run `wit verify` on the dataset")
    except OpenWITError:
        raise
    except Exception as error:  # fsspec's backends raise their own errors
        raise NetworkError(f"{url} cannot be copied: {type(error).__name__}: {error}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder, so that one process at a time runs the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        lock_file(lock, wait=True)
        yield

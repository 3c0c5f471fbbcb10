"""Check that a set shares no image with the split that a model was trained on, by checksums."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq

from openwit.schemas.common.errors import DataError
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.data.sample_texts import CorruptSampleError


class _Readable(Protocol):
    def __len__(self) -> int: ...
    def key(self, index: int) -> str: ...
    def sample(self, index: int) -> Any: ...


def is_training_folder(model: LoadedModel, folder: Path) -> bool:
    """Return whether a folder holds shards that a run of ours was trained on, of a dataset on this machine."""
    shards = {path.parent for path, _ in _entries(model)}
    return folder.resolve() in shards


def check_not_trained_on(model: LoadedModel, data: _Readable, title: str, limit: int | None = None) -> str:
    """Check the images of a set against the training data of a run of ours.

    The checksums are those of the dataset's tables: of the bytes as they were fetched, so a picture that was encoded
    again or cropped is not recognised (`wit decontaminate` finds those).

    Args:
        model: what was trained.
        data: the set.
        title: of the set, for messages.
        limit: number of images compared, the first ones; None: all.

    Returns:
        A sentence on what was compared; empty if the training data are not known or not here.

    Raises:
        DataError: images are in the training split.
    """
    trained = _checksums(model)
    if not trained:
        return ""
    size = len(data) if limit is None else min(limit, len(data))
    shared = [data.key(index) for index in range(size) if _checksum(data, index) in trained]
    if shared:
        raise DataError(
            f"{len(shared):,} of the {size:,} images of {title} are in the training data of the model, by "
            f"checksum (the first: {', '.join(shared[:3])}): choose others, or give --allow-train"
        )
    return (
        f"none of the images has the checksum of one of the {len(trained):,} that the model was trained on, as they "
        "were fetched; pictures that were encoded again are not recognised"
    )


def _checksum(data: _Readable, index: int) -> str:
    try:
        return hashlib.sha256(data.sample(index).image).hexdigest()
    except CorruptSampleError:
        return ""


def _checksums(model: LoadedModel) -> set[str]:
    """Return the checksums of the images of the training splits, of datasets of ours on this machine."""
    found: set[str] = set()
    for _, path in _entries(model):
        if path.is_file() and "sha256" in pq.read_schema(path).names:
            found.update(pq.read_table(path, columns=["sha256"])["sha256"].to_pylist())
    return found - {None, ""}


def _entries(model: LoadedModel) -> Iterator[tuple[Path, Path]]:
    """Yield the shards that a run was trained on, each with its table, of datasets of ours on this machine."""
    if model.checkpoint is None:
        return
    data = model.checkpoint.info.config.data
    trained: list[tuple[Path | str | None, str]] = [(share.dataset, share.split) for share in data.datasets or []]
    trained = trained or [(data.dataset, data.split)]
    for folder, split in trained:
        if folder is None or "://" in str(folder) or not (Path(folder) / MANIFEST_NAME).is_file():
            continue
        root = Path(folder).resolve()
        for entry in DatasetManifest.load(root).shards_of(split):
            yield root / entry.tar.path, root / entry.metadata.path

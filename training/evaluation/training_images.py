"""Check that a labelled set shares no image with the split that a model was trained on, by checksums."""

import hashlib
from pathlib import Path

import pyarrow.parquet as pq

from openwit.schemas.common.errors import DataError
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.evaluation.classification_data import ClassificationSet


def check_not_trained_on(model: LoadedModel, data: ClassificationSet) -> str:
    """Check the images of a set against the training data of a run of ours.

    The checksums are those of the dataset's tables: of the bytes as they were fetched, so a picture that was encoded
    again or cropped is not recognised (`wit decontaminate` finds those).

    Returns:
        A sentence on what was compared; empty if the training data are not known or not here.

    Raises:
        DataError: images are in the training split.
    """
    trained = _checksums(model)
    if not trained:
        return ""
    shared = [
        data.key(index)
        for index in range(len(data))
        if hashlib.sha256(data.sample(index).image).hexdigest() in trained
    ]
    if shared:
        raise DataError(
            f"{len(shared):,} of the {len(data):,} images of {data.title} are in the training data of the model, by "
            f"checksum (the first: {', '.join(shared[:3])}): choose others, or give --allow-train"
        )
    return f"none of the images is among the {len(trained):,} that the model was trained on, by checksum"


def _checksums(model: LoadedModel) -> set[str]:
    """Return the checksums of the images of the training splits, of datasets of ours on this machine."""
    if model.checkpoint is None:
        return set()
    data = model.checkpoint.info.config.data
    trained: list[tuple[Path | str | None, str]] = [(share.dataset, share.split) for share in data.datasets or []]
    trained = trained or [(data.dataset, data.split)]
    found: set[str] = set()
    for folder, split in trained:
        if folder is None or "://" in str(folder) or not (Path(folder) / MANIFEST_NAME).is_file():
            continue
        for entry in DatasetManifest.load(Path(folder)).shards_of(split):
            path = Path(folder) / entry.metadata.path
            if path.is_file() and "sha256" in pq.read_schema(path).names:
                found.update(pq.read_table(path, columns=["sha256"])["sha256"].to_pylist())
    return found - {None, ""}

"""Name labelled images as commands do: a path with its columns, or a known dataset below a folder."""

from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import RecipeError
from openwit.training.config.evaluation_data import DatasetSettings


def dataset_settings(data: Path | None, known: str | None, root: Path, **reading: Any) -> DatasetSettings:
    """Return the settings of a dataset, as a suite has them.

    Args:
        data: `--data`.
        known: `--dataset`.
        root: `--root`.
        reading: further keys of `DatasetSettings`.

    Raises:
        RecipeError: both or none is given, or options that a known dataset does not take.
    """
    if (data is None) == (known is None):
        raise RecipeError("give either --data PATH, or --dataset NAME with --root FOLDER")
    if known is not None:
        if reading.get("image_column") is not None or reading.get("label_column") is not None:
            raise RecipeError(
                "--image-column and --label-column are for --data: the layout of a known dataset is known"
            )
        if reading.get("train") is not None or reading.get("val") is not None:
            raise RecipeError("--train and --val are for --data: name splits of a known dataset (--train-split)")
    return DatasetSettings(name="data", data=data, known=known, root=root, **reading)

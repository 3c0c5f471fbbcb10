"""Open a dataset in whichever layout it lies: CLIP_benchmark's export, its own, Parquet, or one folder per class."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from openwit.schemas.common.errors import DataError
from openwit.training.data.tar_index import tars_in
from openwit.training.evaluation.classification_data import ClassificationSet, missing_shards, number_classes
from openwit.training.evaluation.classification_readers import (
    HELD_OUT,
    Found,
    LabelledData,
    read_parquet,
    read_tars,
)
from openwit.training.evaluation.registry import arrays, lists
from openwit.training.evaluation.registry.table import KnownDataset

WDS, PARQUET, CLASS_FOLDERS = "WebDataset", "Parquet", "folder"


class Reader(NamedTuple):
    """What reads a layout: the splits of a folder, and the images of one."""

    splits: Callable[[Path], list[str]]
    read: Callable[[Path, str], Found]


def _wds_splits(folder: Path) -> list[str]:
    inner = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and tars_in(path)]
    return inner or (["all"] if tars_in(folder) else [])


def _read_wds(folder: Path, split: str) -> Found:
    inner = folder if split == "all" else folder / split
    tars = tars_in(inner)
    found = read_tars(tars)
    found.notes += missing_shards(inner, tars)
    return found


def _tables(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.glob("[!.]*.parquet"))


def _parquet_splits(path: Path) -> list[str]:
    try:
        files = [pq.ParquetFile(each) for each in _tables(path)]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no readable Parquet file: {error}") from error
    if not files:
        return []
    if "split" not in files[0].schema_arrow.names:
        return ["all"]
    return sorted({str(name) for file in files for name in file.read(columns=["split"])["split"].unique().to_pylist()})


def _read_parquet(path: Path, split: str) -> Found:
    return read_parquet(_tables(path), LabelledData(path, split=None if split == "all" else split))[0]


READERS: dict[str, Reader] = {
    WDS: Reader(_wds_splits, _read_wds),
    PARQUET: Reader(_parquet_splits, _read_parquet),
    CLASS_FOLDERS: Reader(lists.folder_splits, lists.read_class_folders),
    "aircraft": Reader(lists.aircraft_splits, lists.read_aircraft),
    "cars": Reader(lists.cars_splits, lists.read_cars),
    "cifar": Reader(arrays.cifar_splits, arrays.read_cifar),
    "dtd": Reader(lists.dtd_splits, lists.read_dtd),
    "fer2013": Reader(arrays.fer2013_splits, arrays.read_fer2013),
    "flowers": Reader(lists.flowers_splits, lists.read_flowers),
    "food101": Reader(lists.food101_splits, lists.read_food101),
    "gtsrb": Reader(lists.gtsrb_splits, lists.read_gtsrb),
    "hateful_memes": Reader(lists.hateful_memes_splits, lists.read_hateful_memes),
    "mnist": Reader(arrays.mnist_splits, arrays.read_mnist),
    "pets": Reader(lists.pets_splits, lists.read_pets),
    "stl10": Reader(arrays.stl10_splits, arrays.read_stl10),
    "sun397": Reader(lists.sun397_splits, lists.read_sun397),
    "svhn": Reader(arrays.svhn_splits, arrays.read_svhn),
    "voc": Reader(lists.voc_splits, lists.read_voc),
}


@dataclass(frozen=True)
class Located:
    """A known dataset in a folder or file.

    Attributes:
        known: of the table.
        layout: key of `READERS`.
        path: the folder or file.
        splits: those that are there; `all` if it has none.
    """

    known: KnownDataset
    layout: str
    path: Path
    splits: tuple[str, ...]

    def read(self, split: str) -> Found:
        """Read a split: images and labels as stored.

        Raises:
            DataError: a file is missing or damaged.
        """
        return READERS[self.layout].read(self.path, split)

    def open(self, split: str | None = None, classes: Path | None = None) -> ClassificationSet:
        """Open a split as a labelled set.

        Args:
            split: None: a held-out one, or the only one.
            classes: file of class names; None: those of the data.

        Raises:
            DataError: there is no such split, it is empty or damaged, or the list of names is that of another set.
        """
        split = self._chosen(split)
        wanted = LabelledData(self.path, split=split, classes=classes, keys=self.known.names)
        found = number_classes(self.read(split), wanted, None if split == "all" else split)
        if len(found.classes) != self.known.classes:
            about = (
                f"{found.title} has {len(found.classes)} class names, but {self.known.title} has {self.known.classes}"
            )
            if classes is not None:
                raise DataError(f"{about}: {classes} is the list of another set")
            found = found.noting(f"{about} classes")
        return found.noting(*self.differences({split: len(found) + sum(map(len, found.left_out.values()))}))

    def _chosen(self, split: str | None) -> str:
        if split is not None:
            if self.splits == ("all",) and split != "all":
                raise DataError(f"{self.path} has no splits: leave the split out")
            if split not in self.splits:
                raise DataError(f"{self.path} has no split {split!r} (it has: {', '.join(self.splits)})")
            return split
        held_out = next((name for name in (*HELD_OUT, "valid") if name in self.splits), None)
        if held_out is None and len(self.splits) > 1:
            raise DataError(
                f"{self.path} does not tell which split is held out (it has: {', '.join(self.splits)}): name one with "
                "--split"
            )
        return held_out or self.splits[0]

    def differences(self, counts: dict[str, int]) -> list[str]:
        """Return a sentence for each split whose number of images is not a published one."""
        found = []
        for split, images in counts.items():
            published = self.known.published(split)
            if published and images not in published:
                expected = "; or ".join(f"{number:,} ({source})" for number, source in published.items())
                found.append(f"{self.known.name}, {split}: {images:,} images here, published are {expected}")
        return found

"""Read labelled images: from Parquet, from a folder with one folder per class, or from WebDataset tars.

Every row becomes a labelled image or is skipped for a reason: `no image`, `no label`, `no split`, `unknown class`,
`damaged tar`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.tar_members import DAMAGED
from openwit.schemas.common.wording import counted
from openwit.training.data.sampling import Shuffle
from openwit.training.evaluation.class_names import BESIDE, folder_numbers, names_of_folders, read_class_names
from openwit.training.evaluation.classification_labels import Label
from openwit.training.evaluation.classification_readers import (
    Found,
    Images,
    LabelledData,
    read_folder,
    read_parquet,
    read_tars,
    tars_of,
)


class Labelled(NamedTuple):
    """One image of a set, and the number of its class."""

    key: str
    image: bytes
    label: int


@dataclass(frozen=True)
class ClassificationSet:
    """Labelled images by index.

    Attributes:
        name: of the file or folder.
        split: of the set; None if it has no splits.
        classes: names; a label is an index into them.
        keys: (N,) names of the images.
        labels: (N,) numbers of their classes; -1 throughout if images have several.
        left_out: keys of rows that are not labelled images, by reason.
        notes: what was decided about names, in words.
        truth: (N, classes) 1, 0, or -1 for not judged, if an image may have several classes; None otherwise.
    """

    name: str
    split: str | None
    classes: tuple[str, ...]
    keys: list[str]
    labels: NDArray[np.int64]
    left_out: dict[str, list[str]]
    places: list[int]
    images: Images
    notes: tuple[str, ...] = ()
    truth: NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def title(self) -> str:
        """Return name and split."""
        return self.name if self.split is None else f"{self.name}/{self.split}"

    def key(self, index: int) -> str:
        """Return the name of an image."""
        return self.keys[index]

    def sample(self, index: int) -> Labelled:
        """Return an image, still encoded."""
        return Labelled(self.keys[index], self.images(self.places[index]), int(self.labels[index]))

    def noting(self, *notes: str) -> "ClassificationSet":
        """Return the set with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    def limited(self, limit: int | None) -> "ClassificationSet":
        """Return at most `limit` images, always the same, drawn from the whole set because sets are often sorted."""
        if limit is None or limit >= len(self):
            return self
        chosen = np.sort(Shuffle(len(self), 0, "classification").at(0, np.arange(limit)))
        return replace(
            self,
            keys=[self.keys[index] for index in chosen],
            labels=self.labels[chosen],
            truth=None if self.truth is None else self.truth[chosen],
            places=[self.places[index] for index in chosen],
        )


def open_classification(wanted: LabelledData) -> ClassificationSet:
    """Read all labels, but no images yet.

    Raises:
        DataError: there is no such set, numbers have no names, or fewer than two classes or no images remain.
    """
    path = wanted.data
    refuse_special(path, str(path))
    if not path.exists():
        raise DataError(f"{path} does not exist")
    found, split = _read(path, wanted)
    return number_classes(found, wanted, split)


def _read(path: Path, wanted: LabelledData) -> tuple[Found, str | None]:
    if path.suffix == ".parquet" and path.is_file():
        return read_parquet([path], wanted)
    if path.is_file():
        if wanted.split is not None:
            raise DataError(f"{path} is one tar, which has no split {wanted.split!r}: leave the split out")
        return _labelled(read_tars([path]), path), None
    tars, folder, split = tars_of(path, wanted.split)
    tables = sorted(folder.glob("[!.]*.parquet"))  # not what a killed process left half written
    if tars:
        found = _labelled(read_tars(tars), path)
        found.notes += missing_shards(folder, tars)
        return found, split
    if tables:
        found, named = read_parquet(tables, wanted)
        return found, named or split
    return read_folder(folder), split


def missing_shards(folder: Path, tars: Sequence[Path]) -> list[str]:
    """Return a sentence if CLIP_benchmark's `nshards.txt` names more tars than there are: a copy that is not whole."""
    path = folder / "nshards.txt"
    try:
        expected = int(path.read_text("utf-8").strip()) if path.is_file() else len(tars)
    except (ValueError, OSError):
        return [f"{path} holds no number"]
    if expected == len(tars):
        return []
    return [f"{path} says {expected:,} tars, but there are {len(tars):,}: the set is not whole"]


def _labelled(found: Found, path: Path) -> Found:
    """Return what was read of tars if an image has a class."""
    if any(label is not None for label in found.labels):
        return found
    if path.is_file() and not found.keys and DAMAGED in found.left_out:
        raise DataError(f"{path} is neither a tar that can be read, nor a Parquet file, nor a folder")
    images = f"none of its {len(found.keys):,} images has" if found.keys else "no sample has"
    raise DataError(
        f"{path} has 0 classes: {images} a class in a member .cls (a number or a word, beside KEY.jpg; or in .npy "
        f"marks of 0 and 1 per class)"
        f"{_aside(found)}; images with texts only can be measured with `wit-train retrieval`"
    )


def _aside(found: Found) -> str:
    aside = ", ".join(f"{len(left):,} {reason}" for reason, left in found.left_out.items())
    return f" ({aside})" if aside else ""


def _names(found: Found, wanted: LabelledData) -> tuple[list[str], list[int] | None, str]:
    """Find the names by number: of the file that is given, else of the data, else of a file beside the data.

    Returns:
        The names, the number of each folder if the labels are folders, and what was decided, in words.
    """
    folder = wanted.data if wanted.data.is_dir() else wanted.data.parent
    path = wanted.classes
    is_numbered = found.names is None and any(_is_numbered(label) for label in found.labels)
    if path is None and (is_numbered or folder_numbers(found.folders or [""]) is not None):
        path = next((folder / name for name in BESIDE if (folder / name).is_file()), None)
        if path is None and is_numbered:
            raise DataError(
                f"the labels of {wanted.data} are numbers, and no names come with them: give a file of class names, "
                f"one a line from class 0 on (--classes FILE, or {BESIDE[0]} beside the data)"
            )
    if path is None and folder_numbers(found.folders or [""]) is not None:
        return list(found.names or ()), None, f"the folders of {wanted.data} are numbers, which are taken as words"
    if path is None:
        words = {word for label in found.labels for word in _classes_of(label) if isinstance(word, str)}
        return (list(found.names) if found.names is not None else sorted(words)), None, ""
    if found.folders:
        return names_of_folders(found.folders, path, wanted.data, wanted.names)
    names = read_class_names(path, wanted.names)
    if found.names is not None and len(found.names) != len(names):
        raise DataError(f"{path} names {len(names)} classes, but {wanted.data} has {len(found.names)}")
    return names, None, ""


def _is_numbered(label: Label) -> bool:
    return isinstance(label, np.ndarray) or any(isinstance(each, int) for each in _classes_of(label))


def _classes_of(label: Label) -> Sequence[int | str]:
    if isinstance(label, tuple):
        return label
    return (label,) if isinstance(label, int | str) else ()


def number_classes(found: Found, wanted: LabelledData, split: str | None) -> ClassificationSet:
    """Return a set of what a reader found, with labels as numbers of named classes.

    Raises:
        DataError: numbers have no names, or fewer than two classes or no images remain.
    """
    where = f"{wanted.data}" if split is None else f"split {split!r} of {wanted.data}"
    if not found.keys:
        raise DataError(f"{where} holds no images{_aside(found)}")
    names, folders, note = _names(found, wanted)
    if len(names) < 2:
        raise DataError(
            f"{wanted.data} has {counted(len(names), 'class', plural='classes')}: there is nothing to choose with "
            "fewer than two"
        )
    if folders is not None:
        found.labels = [folders[label] if isinstance(label, int) else label for label in found.labels]
    numbers = {name: number for number, name in reversed(list(enumerate(names)))}
    _check_range(found, len(names), wanted)
    several = any(isinstance(label, tuple | np.ndarray) for label in found.labels)
    keys, rows, places = [], [], []
    for key, label, place in zip(found.keys, found.labels, found.places, strict=True):
        row = _row(label, numbers, len(names))
        if label is None:
            found.leave_out("no label", key)
        elif row is None:
            found.leave_out("unknown class", key)
        else:
            keys.append(key)
            rows.append(row)
            places.append(place)
    if not keys:
        raise DataError(f"{where} holds no labelled images{_aside(found)}")
    unknown = found.left_out.get("unknown class", [])
    if wanted.classes is not None and len(unknown) > len(keys):
        raise DataError(
            f"{wanted.classes} does not name the classes of {len(unknown):,} images of {where}, such as "
            f"{unknown[0]!r}: it is the list of another set"
        )
    name = wanted.data.resolve().name.removesuffix(".parquet").removesuffix(".tar")
    truth = np.stack([_marked(row, len(names)) for row in rows]) if several else None
    array = np.full(len(keys), -1, dtype=np.int64) if several else np.array(rows, dtype=np.int64)
    notes = (*((note,) if note else ()), *found.notes)
    return ClassificationSet(
        name, split, tuple(names), keys, array, found.left_out, places, found.images, notes, truth
    )


def _check_range(found: Found, ways: int, wanted: LabelledData) -> None:
    """Refuse numbers that the list of classes does not have; -1 is the usual sign of an image without a label.

    Raises:
        DataError: naming the first.
    """
    wrong = [
        (key, number)
        for key, label in zip(found.keys, found.labels, strict=True)
        for number in _classes_of(label)
        if isinstance(number, int) and not -1 <= number < ways
    ]
    if wrong:
        key, number = wrong[0]
        listed = wanted.classes or "the list of its classes"
        raise DataError(
            f"{len(wrong):,} labels of {wanted.data} are out of range, such as {number} of {key!r}: {listed} has "
            f"{ways} classes, 0 to {ways - 1}, so it is that of another set"
        )


def _row(label: Label, numbers: dict[str, int], ways: int) -> int | list[int] | NDArray[np.int8] | None:
    """Return a label as the number of its class, as those of its classes, or as marks; None if one is not known."""
    if isinstance(label, np.ndarray):
        return label if len(label) == ways else None
    found = [numbers.get(each, -1) if isinstance(each, str) else each for each in _classes_of(label)]
    if any(not 0 <= each < ways for each in found):
        return None
    if isinstance(label, tuple):
        return found
    return found[0] if found else None


def _marked(row: int | list[int] | NDArray[np.int8], ways: int) -> NDArray[np.int8]:
    if isinstance(row, np.ndarray):
        return row
    marks = np.zeros(ways, dtype=np.int8)
    marks[row] = 1
    return marks

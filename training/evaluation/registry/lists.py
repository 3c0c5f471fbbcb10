"""Read sets that are files of images and lists of their classes, as torchvision's datasets lay them out."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from openwit.schemas.common.errors import DataError
from openwit.training.data.tar_samples import IMAGE_SUFFIXES
from openwit.training.evaluation.classification_labels import Label
from openwit.training.evaluation.classification_readers import Found, read_folder
from openwit.training.evaluation.registry.arrays import read_matlab


def of_files(folder: Path, rows: Iterable[tuple[str, Label]], names: list[str] | None = None) -> Found:
    """Return images of a folder with their labels; a file that is missing is left out as `no image`."""
    paths: list[Path] = []
    found = Found(lambda place: paths[place].read_bytes(), names=names)
    for name, label in rows:
        path = folder / name
        if not path.is_file():
            found.leave_out("no image", name)
            continue
        found.add(name, label, len(paths))
        paths.append(path)
    return found


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path} is missing")
    return [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no readable JSON: {error}") from error


def food101_splits(folder: Path) -> list[str]:
    """Return the splits of Food-101 that are there."""
    return [split for split in ("train", "test") if (folder / "meta" / f"{split}.json").is_file()]


def read_food101(folder: Path, split: str) -> Found:
    """Read Food-101: `meta/SPLIT.json` has the images of each class."""
    by_class = _json(folder / "meta" / f"{split}.json")
    names = sorted(by_class)
    rows = [(f"{each}.jpg", number) for number, name in enumerate(names) for each in by_class[name]]
    return of_files(folder / "images", rows, [name.replace("_", " ") for name in names])


def dtd_splits(folder: Path) -> list[str]:
    """Return the splits of the first partition of Describable Textures that are there."""
    return [split for split in ("train", "val", "test") if (folder / "labels" / f"{split}1.txt").is_file()]


def read_dtd(folder: Path, split: str) -> Found:
    """Read Describable Textures, the first of its ten partitions, as torchvision does."""
    files = _lines(folder / "labels" / f"{split}1.txt")
    return of_files(folder / "images", [(file, file.partition("/")[0].replace("_", " ")) for file in files])


def aircraft_splits(folder: Path) -> list[str]:
    """Return the splits of FGVC Aircraft that are there."""
    splits = ("train", "val", "trainval", "test")
    return [split for split in splits if (folder / "data" / f"images_variant_{split}.txt").is_file()]


def read_aircraft(folder: Path, split: str) -> Found:
    """Read FGVC Aircraft by variant: a line is the number of an image and its class."""
    names = _lines(folder / "data" / "variants.txt")
    rows: list[tuple[str, Label]] = []
    for line in _lines(folder / "data" / f"images_variant_{split}.txt"):
        image, _, name = line.partition(" ")
        rows.append((f"{image}.jpg", name))
    return of_files(folder / "data" / "images", rows, names)


def pets_splits(folder: Path) -> list[str]:
    """Return the splits of Oxford-IIIT Pets that are there."""
    return [split for split in ("trainval", "test") if (folder / "annotations" / f"{split}.txt").is_file()]


def read_pets(folder: Path, split: str) -> Found:
    """Read Oxford-IIIT Pets: a line is an image, whose name begins with the breed, and the class from 1."""
    rows: list[tuple[str, Label]] = []
    names: dict[int, str] = {}
    for line in _lines(folder / "annotations" / f"{split}.txt"):
        image, number, *_ = [*line.split(), ""]
        if not number.isdecimal():
            raise DataError(f"{folder / 'annotations'}, {split}.txt: {line[:60]!r} has no number of a class")
        names[int(number) - 1] = image.rpartition("_")[0].replace("_", " ")
        rows.append((f"{image}.jpg", int(number) - 1))
    return of_files(
        folder / "images", rows, [names.get(number, f"class {number}") for number in range(max(names) + 1)]
    )


def gtsrb_splits(folder: Path) -> list[str]:
    """Return the splits of the German traffic signs that are there."""
    found = {"train": folder / "Training", "test": folder / "GT-final_test.csv"}
    beside = {"test": folder.parent / "GT-final_test.csv"}
    return [split for split, path in found.items() if path.exists() or beside.get(split, path).exists()]


def read_gtsrb(folder: Path, split: str) -> Found:
    """Read the German traffic signs; classes are numbers, whose names the user's file has."""
    if split == "train":
        images = sorted((folder / "Training").glob("[0-9]*/*.ppm"))
        return of_files(folder, [(str(path.relative_to(folder)), int(path.parent.name)) for path in images])
    table = next(
        path for path in (folder / "GT-final_test.csv", folder.parent / "GT-final_test.csv") if path.is_file()
    )
    with table.open(encoding="utf-8", newline="") as file:
        rows = [(row.get("Filename") or "", row.get("ClassId") or "") for row in csv.DictReader(file, delimiter=";")]
    return of_files(
        folder / "Final_Test" / "Images", [(name, int(label) if label.isdecimal() else None) for name, label in rows]
    )


def voc_splits(folder: Path) -> list[str]:
    """Return the splits of Pascal VOC that are there."""
    main = folder / "ImageSets" / "Main"
    return [split for split in ("train", "val", "trainval", "test") if list(main.glob(f"[a-z]*_{split}.txt"))]


def read_voc(folder: Path, split: str) -> Found:
    """Read Pascal VOC's classification lists: 1 in the image, -1 not, 0 only difficult objects, which do not count."""
    main = folder / "ImageSets" / "Main"
    lists = sorted(path for path in main.glob(f"*_{split}.txt") if path.stem.count("_") == 1)
    names = [path.stem.partition("_")[0] for path in lists]
    marks: dict[str, list[int]] = {}
    for number, path in enumerate(lists):
        for line in _lines(path):
            image, _, mark = line.partition(" ")
            if mark.strip() not in ("1", "-1", "0"):
                raise DataError(f"{path}: {line[:60]!r} is not an image and 1, 0 or -1")
            row = marks.setdefault(image, [-1] * len(names))
            row[number] = {"1": 1, "-1": 0, "0": -1}[mark.strip()]
    rows = [(f"{image}.jpg", np.array(row, dtype=np.int8)) for image, row in marks.items()]
    return of_files(folder / "JPEGImages", rows, names)


_FLOWERS = {"train": "trnid", "val": "valid", "test": "tstid"}


def flowers_splits(folder: Path) -> list[str]:
    """Return the splits of Oxford Flowers."""
    return list(_FLOWERS) if (folder / "setid.mat").is_file() else []


def read_flowers(folder: Path, split: str) -> Found:
    """Read Oxford Flowers 102; classes are numbers from 1, whose names the user's file has."""
    labels = read_matlab(folder / "imagelabels.mat")["labels"].ravel()
    chosen = read_matlab(folder / "setid.mat")[_FLOWERS[split]].ravel()
    rows: list[tuple[str, Label]] = [
        (f"image_{int(number):05d}.jpg", int(labels[int(number) - 1]) - 1) for number in chosen
    ]
    return of_files(folder / "jpg", rows)


_CARS = {
    "train": ("devkit/cars_train_annos.mat", "cars_train"),
    "test": ("cars_test_annos_withlabels.mat", "cars_test"),
}


def cars_splits(folder: Path) -> list[str]:
    """Return the splits of Stanford Cars that are there."""
    return [split for split, (path, _) in _CARS.items() if (folder / path).is_file()]


def read_cars(folder: Path, split: str) -> Found:
    """Read Stanford Cars, with the class names of its devkit."""
    path, images = _CARS[split]
    annotations = read_matlab(folder / path)["annotations"].ravel()
    names = [str(name.item()) for name in read_matlab(folder / "devkit" / "cars_meta.mat")["class_names"].ravel()]
    rows: list[tuple[str, Label]] = [
        (str(each["fname"].item()), int(each["class"].item()) - 1) for each in annotations
    ]
    return of_files(folder / images, rows, names)


def hateful_memes_splits(folder: Path) -> list[str]:
    """Return the splits of Hateful Memes that are there."""
    names = ("train", "dev", "dev_seen", "dev_unseen", "test", "test_seen", "test_unseen")
    return [split for split in names if (folder / f"{split}.jsonl").is_file()]


def read_hateful_memes(folder: Path, split: str) -> Found:
    """Read Hateful Memes: a line has an image and the label 1 if it is hateful."""
    rows: list[tuple[str, Label]] = []
    path = folder / f"{split}.jsonl"
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = json.loads(line)
            rows.append((str(row["img"]), int(row["label"]) if "label" in row else None))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}, line {number} has no img and label: {error}") from error
    return of_files(folder, rows, ["harmless", "hateful"])


def sun397_splits(folder: Path) -> list[str]:
    """Return the one part of SUN397, which has no official split on its own."""
    return ["all"] if (folder / "ClassName.txt").is_file() else []


def read_sun397(folder: Path, split: str) -> Found:  # noqa: ARG001
    """Read SUN397: a line of `ClassName.txt` is the folder of a class, such as /a/abbey or /c/church/indoor."""
    rows: list[tuple[str, Label]] = []
    names = []
    for number, line in enumerate(_lines(folder / "ClassName.txt")):
        inner = folder / line.strip("/")
        names.append(" ".join(line.strip("/").split("/")[1:]).replace("_", " "))
        rows += [(str(path.relative_to(folder)), number) for path in sorted(inner.glob("sun_*.jpg"))]
    return of_files(folder, rows, names)


_PARTS = ("train", "val", "valid", "validation", "trainval", "test", "Train", "Test", "training", "testing")


def folder_splits(folder: Path) -> list[str]:
    """Return the splits of a folder that has one folder per split or, without splits, one per class; `all` then."""
    found = [name for name in _PARTS if (folder / name).is_dir() and _has_classes(folder / name)]
    return found or (["all"] if _has_classes(folder) else [])


def _has_classes(folder: Path) -> bool:
    """Return whether a folder holds folders of images; looks at one image of the first."""
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and inner.name[0] not in "._":
            return any(path.suffix.lower().removeprefix(".") in IMAGE_SUFFIXES for path in inner.iterdir())
    return False


def read_class_folders(folder: Path, split: str) -> Found:
    """Read one folder per class, below the folder of the split."""
    return read_folder(folder if split == "all" else folder / split)

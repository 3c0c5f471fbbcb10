"""Read labelled images: rows of Parquet files, folders of images, members of tars."""

import mmap
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.tar_members import DAMAGED
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest
from openwit.training.data.tar_index import Span, gather_spans, tars_in
from openwit.training.data.tar_samples import IMAGE_SUFFIXES, Gathering
from openwit.training.data.unpack import unpack_tars
from openwit.training.evaluation.class_names import folder_numbers
from openwit.training.evaluation.classification_labels import (
    Label,
    hugging_face_names,
    is_label,
    label_of,
    labels_of,
    marks_of_npy,
    value_type,
)

IMAGE_NAMES = ("image", "jpeg", "jpg", "png", "webp", "img", "bytes")
LABEL_NAMES = ("label", "labels", "class", "cls", "class_name", "target", "fine_label")
TAR_KINDS = {**dict.fromkeys(IMAGE_SUFFIXES, "image"), **{name: name for name in ("cls", "npy", "txt", "json")}}
HELD_OUT = ("test", "val", "validation")
"""Splits to look for if none is named; the first one found is used."""

_MAX_UNPACKED = 100_000_000_000


class Images(Protocol):
    """Encoded images by position, from any storage."""

    def __call__(self, place: int) -> bytes:
        """Return the bytes of an image."""
        ...


@dataclass
class Found:
    """Result of a reader: images with labels as stored, and what was skipped.

    Attributes:
        keys: names of the images.
        labels: words, numbers, several of them, marks per class, or None.
        places: positions, as `images` takes them.
        images: reads one image.
        names: of the classes by number, if the data contain them.
        notes: what was found or decided, in words.
        folders: names of the folders, if each is a class; a label is an index into them.
        left_out: keys by reason.
    """

    images: Images
    keys: list[str] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    names: Sequence[str] | None = None
    folders: Sequence[str] = ()
    left_out: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, key: str, label: Label, place: int) -> None:
        """Add an image."""
        self.keys.append(key)
        self.labels.append(label)
        self.places.append(place)

    def leave_out(self, reason: str, key: str) -> None:
        """Record an image that is skipped."""
        self.left_out.setdefault(reason, []).append(key)


@dataclass(frozen=True)
class LabelledData:
    """Location of labelled images, and how to read them.

    Attributes:
        data: a Parquet file, a folder, or a tar.
        split: None: a held-out one if there are several (`HELD_OUT`).
        classes: a file of class names in order of number, one per line; None: those that come with the data.
        image_column: of a Parquet file; None: the one that holds bytes.
        label_column: of a Parquet file; None: the one with a usual name.
        keys: names of the dataset, for files with a list of class names for each; empty: the name of the data.
    """

    data: Path
    _: KW_ONLY
    split: str | None = None
    classes: Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    keys: Sequence[str] = ()

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the dataset."""
        return self.keys or (self.data.resolve().name.removesuffix(".parquet").removesuffix(".tar"),)


class ParquetImages:
    """Images of a column, with one row group in memory at a time, so reading rows in order is fastest.

    Args:
        files: the files, in order.
        column: of bytes, or of structs with bytes as Hugging Face's datasets have them.
    """

    def __init__(self, files: list[pq.ParquetFile], column: str) -> None:
        self._groups = [(file, group) for file in files for group in range(file.num_row_groups)]
        self._ends = list(accumulate(file.metadata.row_group(group).num_rows for file, group in self._groups))
        self._column = column
        self._held: tuple[int, pa.Array] | None = None

    def __call__(self, place: int) -> bytes:
        """Return the image of a row; rows are numbered across all files."""
        number = bisect_right(self._ends, place)
        if self._held is None or self._held[0] != number:
            file, group = self._groups[number]
            column = file.read_row_group(group, columns=[self._column]).column(0).combine_chunks()
            self._held = number, column.field("bytes") if pa.types.is_struct(column.type) else column
        row = place - (self._ends[number - 1] if number else 0)
        image: bytes = self._held[1][row].as_py() or b""
        return image


def read_parquet(paths: list[Path], wanted: LabelledData) -> tuple[Found, str | None]:
    """Read the rows of Parquet files, of one split if there is a column `split`; return them and the split.

    Raises:
        DataError: a file is damaged, or columns or split are ambiguous.
    """
    files = [open_parquet(path) for path in paths]
    schema = files[0].schema_arrow
    for path, file in zip(paths, files, strict=True):
        if not file.schema_arrow.equals(schema):
            raise DataError(f"{path} has other columns than {paths[0]}: give the files of one set")
    image, label = image_column(schema, wanted), _label_column(schema, wanted)
    found = Found(ParquetImages(files, image), names=hugging_face_names(schema, label))
    columns = [label, *(name for name in ("key", "split") if name in schema.names and name != label)]
    rows = pa.concat_tables(file.read(columns=columns) for file in files)
    labels = labels_of(rows[label])
    keys = rows["key"].to_pylist() if "key" in columns else [None] * len(labels)
    splits = rows["split"].to_pylist() if "split" in columns else [None] * len(labels)
    split = chosen_split(list(dict.fromkeys(splits)), wanted) if "split" in columns else wanted.split
    if "split" not in columns and split is not None and not wanted.data.is_dir():
        raise DataError(f"{wanted.data} has no column split, so it has no split {split!r}: leave the split out")
    for row, (key, value, part) in enumerate(zip(keys, labels, splits, strict=True)):
        name = str(key) if key is not None else f"row {row}"
        if "split" not in columns or part == split:
            found.add(name, value, row)
        elif part is None:
            found.leave_out("no split", name)
    return found, split


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file; raises DataError if it is damaged."""
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file: {error}") from error


def image_column(schema: pa.Schema, wanted: LabelledData) -> str:
    """Return the column of images: the one that is named, or has a usual name, or is the only one of bytes.

    Raises:
        DataError: none is.
    """
    fitting = [column.name for column in schema if holds_bytes(column.type)]
    if wanted.image_column is not None:
        if wanted.image_column not in fitting:
            raise DataError(f"{wanted.data} has no column {wanted.image_column!r} of bytes; of bytes are: {fitting}")
        return wanted.image_column
    named = [name for name in IMAGE_NAMES if name in fitting]
    if not named and len(fitting) != 1:
        raise DataError(
            f"{wanted.data} has {len(fitting)} columns of bytes ({', '.join(fitting) or 'none'}), and images must be "
            "in one: name it with --image-column"
        )
    return named[0] if named else fitting[0]


def holds_bytes(kind: pa.DataType) -> bool:
    """Return whether a column holds bytes, or structs with bytes as Hugging Face's datasets have them."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _label_column(schema: pa.Schema, wanted: LabelledData) -> str:
    name = wanted.label_column or next((name for name in LABEL_NAMES if name in schema.names), None)
    if name is None or name not in schema.names:
        raise DataError(
            f"{wanted.data} has no column {name or ' or '.join(LABEL_NAMES)} of labels (it has: "
            f"{', '.join(schema.names)}): name it with --label-column"
        )
    kind = schema.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    of_list = value_type(kind)
    marks = of_list is not None and (pa.types.is_boolean(of_list) or pa.types.is_floating(of_list))
    if not (marks or is_label(kind if of_list is None else of_list)):
        raise DataError(
            f"column {name} of {wanted.data} is of type {kind}: labels are words or whole numbers, or lists of them"
        )
    return name


def chosen_split(known: list[str | None], wanted: LabelledData) -> str:
    """Return the split to use of those that are there: the one that is asked for, else a held-out one.

    Raises:
        DataError: it is not there, or none is asked for and none is known to be held out.
    """
    names = [name for name in known if name is not None]
    if wanted.split is not None and wanted.split in names:
        return wanted.split
    held_out = next((name for name in HELD_OUT if name in names), None)
    if wanted.split is None and held_out is not None:
        return held_out
    if wanted.split is None and len(names) == 1:
        return names[0]
    asked = f"has no split {wanted.split!r}" if wanted.split is not None else "does not tell which split is held out"
    raise DataError(f"{wanted.data} {asked} (it has: {', '.join(names) or 'none'}): name one with --split")


def tars_of(folder: Path, split: str | None) -> tuple[list[Path], Path, str | None]:
    """Return a folder's tars, the folder that holds them (itself, or the one of a split), and the split.

    Raises:
        DataError: there is no such split.
    """
    if (folder / MANIFEST_NAME).is_file():
        manifest = DatasetManifest.load(folder)
        split = chosen_split(list(manifest.splits()), LabelledData(folder, split=split))
        if manifest.formats() != ["webdataset"]:
            raise DataError(f"{folder} is no WebDataset: labelled images are read from tars, tables or folders")
        return [folder / entry.tar.path for entry in manifest.shards_of(split)], folder, split
    if split is not None and not (folder / split).is_dir():
        raise DataError(f"{folder} has no folder {split}, so it has no split {split!r}")
    if split is None and not tars_in(folder):
        split = next((name for name in HELD_OUT if (folder / name).is_dir()), None)
    inner = folder if split is None else folder / split
    return tars_in(inner), inner, split


def read_tars(paths: list[Path], log: Callable[[str], None] = lambda _: None) -> Found:
    """Read the samples of WebDataset tars: an image, and its class as a number or a word in `.cls`.

    Raises:
        DataError: a tar is missing.
    """
    archives: list[mmap.mmap] = []
    spans: list[tuple[int, int, int]] = []
    found = Found(lambda place: archives[spans[place][0]][spans[place][1] : sum(spans[place][1:])])
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is missing")
    noted: list[str] = []
    plain = unpack_tars(paths, None, max_bytes=_MAX_UNPACKED, note=lambda _, about: noted.append(about), report=log)
    for about in noted:
        found.leave_out(DAMAGED, about)
    for path, named in zip(plain, paths, strict=True):
        if not path.stat().st_size:
            found.leave_out(DAMAGED, named.name)
            continue
        with path.open("rb") as file:
            archives.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

        def note(reason: str, about: str, name: str = named.name) -> None:
            found.leave_out(reason, name if reason == DAMAGED else about)

        gathering: Gathering[Span] = Gathering(found.leave_out, kinds=TAR_KINDS, words=(), apart=True)
        for key, parts in gather_spans(archives[-1], gathering, note):
            start, size = parts.get("cls", (0, 0))
            label: Label = label_of(archives[-1][start : start + size])
            if label is None and "npy" in parts:
                start, size = parts["npy"]
                label = marks_of_npy(archives[-1][start : start + size])
            found.add(key, label, len(spans))
            spans.append((len(archives) - 1, *parts["image"]))
    return found


def read_folder(folder: Path) -> Found:
    """Read images from one folder per class; a class has the name of its folder, with spaces for underscores.

    Folders whose names are numbers are in the order of their numbers.

    Raises:
        DataError: there are no such folders.
    """
    paths: list[Path] = []
    found = Found(lambda place: paths[place].read_bytes())
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))
    if not inner:
        raise DataError(f"{folder} holds neither tars, nor Parquet files, nor a folder for each class")
    if (numbers := folder_numbers([path.name for path in inner])) is not None:
        inner = [path for _, path in sorted(zip(numbers, inner, strict=True))]
    found.folders = [path.name for path in inner]
    found.names = [path.name.replace("_", " ") for path in inner]
    for number, each in enumerate(inner):
        for path in sorted(each.rglob("*")):
            if path.suffix.lower().removeprefix(".") in IMAGE_SUFFIXES and path.is_file() and path.name[0] != ".":
                found.add(str(path.relative_to(folder)), number, len(paths))
                paths.append(path)
    return found

"""Open a set of images with captions by what lies at its path: tars, Parquet, JSON, tables, folders, our datasets."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from openwit.schemas.common.decompress import TAR_ENDINGS
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest
from openwit.training.data.captioned_files import captioned_folder, captioned_table, has_captions
from openwit.training.data.sharded import Dataset, ShardedDataset
from openwit.training.data.tar_index import TarDataset, local_tars
from openwit.training.evaluation.captioned.annotations import captioned_json
from openwit.training.evaluation.captioned.lines import LineCaptions
from openwit.training.evaluation.captioned.tables import captioned_parquet, has_images
from openwit.training.evaluation.classification_readers import LabelledData, tars_of

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")
# Readers are shared with training, whose configuration names its inputs by keys.
_WORDS = (
    ("the tars of data.tars hold", "the tars hold"),
    (" of data.tars", ""),
    ("data.image_column", "--image-column"),
    ("data.caption_column", "--caption-column"),
    ("data.table: ", ""),
    ("data.folder: ", ""),
    ("data.tars: ", ""),
)


@dataclass(frozen=True)
class CaptionedData:
    """Where images with captions are.

    Attributes:
        data: a dataset folder, tars, Parquet, a JSON, a table of paths, or a folder of images.
        split: None: a held-out one, if there are several.
        images: folder of the images that a JSON names; None: beside it.
        image_column, caption_column: of a table; None: found by their names.
    """

    data: Path
    _: KW_ONLY
    split: str | None = None
    images: Path | None = None
    image_column: str | None = None
    caption_column: str | None = None


def open_captioned(wanted: CaptionedData, report: Callable[[str], None] = lambda _: None) -> Dataset:
    """Open images with captions; no image is read yet.

    Args:
        wanted: where they are.
        report: receives sentences on what was found and left out.

    Raises:
        DataError: there are none, or something that was asked for does not apply to them.
    """
    path = wanted.data
    refuse_special(path, str(path))
    with reworded():
        if not path.exists() and any(sign in str(path) for sign in "*?[{"):
            return _tars(local_tars([str(path)]), wanted, report)
        if not path.exists():
            raise DataError(f"{path} does not exist")
        if wanted.images is not None and path.suffix.lower() != ".json":
            raise DataError(f"--images is the folder of the images that a JSON names, and {path} is none")
        return _of_folder(wanted, report) if path.is_dir() else _of_file(wanted, report)


def _of_file(wanted: CaptionedData, report: Callable[[str], None]) -> Dataset:
    path, suffix = wanted.data, wanted.data.suffix.lower()
    if path.name.lower().endswith(TAR_ENDINGS):
        return _tars([path], wanted, report)
    if suffix == ".json":
        return captioned_json(path, images=wanted.images, split=wanted.split, report=report)
    if suffix not in TABLES:
        kinds = "a tar, Parquet, .csv, .tsv, .jsonl, COCO's or Karpathy's .json"
        raise DataError(f"{path} is of no known kind: give {kinds}, a folder, or a dataset")
    if suffix in (".parquet", ".pq") and has_images(path):
        return _parquet([path], wanted, report)
    _refuse_split(wanted)
    return captioned_table(path, image=wanted.image_column, caption=wanted.caption_column, report=report)


def _of_folder(wanted: CaptionedData, report: Callable[[str], None]) -> Dataset:
    path = wanted.data
    if (path / MANIFEST_NAME).is_file():
        splits = DatasetManifest.load(path).splits()
        split = wanted.split or next((name for name in ("val", "test", "validation") if name in splits), None)
        if split is None:
            raise DataError(f"{path} does not tell which split is held out (it has: {', '.join(splits)}): --split")
        return ShardedDataset(path, split)
    tars, folder, split = tars_of(path, wanted.split)
    if tars:
        found = _tars(tars, CaptionedData(path), report)
        found.name, found.split = path.resolve().name, split or found.split
        return found
    tables = sorted(folder.glob("[!.]*.parquet"))
    if tables and has_images(tables[0]):
        return _parquet(tables, wanted, report)
    if not has_captions(folder):
        raise DataError(
            f"{folder} holds no images with captions: KEY.txt beside KEY.jpg, a metadata.csv, tars or Parquet; images "
            "in a folder for each class can be compared with each other by --image-to-image"
        )
    return LineCaptions(captioned_folder(folder, class_caption="{}", report=report))


def _tars(paths: Sequence[Path], wanted: CaptionedData, report: Callable[[str], None]) -> LineCaptions:
    _refuse_split(wanted)
    found = TarDataset(paths, report=report)
    report(found.describe())
    return LineCaptions(found)


def _parquet(paths: Sequence[Path], wanted: CaptionedData, report: Callable[[str], None]) -> Dataset:
    labelled = LabelledData(wanted.data, split=wanted.split, image_column=wanted.image_column)
    return captioned_parquet(paths, labelled, caption=wanted.caption_column, report=report)


def _refuse_split(wanted: CaptionedData) -> None:
    if wanted.split is not None:
        raise DataError(f"{wanted.data} has no splits, so it has no split {wanted.split!r}: leave the split out")


@contextmanager
def reworded(*further: tuple[str, str]) -> Iterator[None]:
    """Name options instead of keys of a training configuration in what the block raises.

    Args:
        further: (key, option) pairs that come first.
    """
    try:
        yield
    except DataError as error:
        text = str(error)
        for old, new in (*further, *_WORDS):
            text = text.replace(old, new)
        raise type(error)(text) from error

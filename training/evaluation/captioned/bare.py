"""Open images without captions, to embed them: a folder, tars, or Parquet."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pyarrow as pa

from openwit.schemas.common.decompress import TAR_ENDINGS
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.wording import counted
from openwit.schemas.manifest import MANIFEST_NAME
from openwit.training.data.captioned_files import CAPTION_COLUMNS, has_captions
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sharded import Dataset, Place, Reading, Sample
from openwit.training.data.tar_index import local_tars
from openwit.training.data.tar_samples import IMAGE_SUFFIXES
from openwit.training.evaluation.captioned.open import CaptionedData, open_captioned
from openwit.training.evaluation.captioned.tables import has_images
from openwit.training.evaluation.classification_readers import (
    LabelledData,
    ParquetImages,
    chosen_split,
    image_column,
    open_parquet,
    read_tars,
    tars_of,
)

Report = Callable[[str], None]


class BareSamples:
    """Images by index, each with no text.

    Args:
        path: of the set.
        split: what the messages call it.
        keys: names of the images.
        images: reads an image by its number.
    """

    def __init__(self, path: Path, split: str, keys: Sequence[str], images: Callable[[int], bytes]) -> None:
        self.folder = path if path.is_dir() else path.parent
        self.name = path.resolve().name.removesuffix(".parquet").removesuffix(".tar")
        self.split = split
        self._keys, self._images = keys, images
        digest = hashlib.sha256(b"images only\n")
        for key in keys:
            digest.update(key.encode(errors="surrogateescape") + b"\n")
        self.manifest_sha256 = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """Return the name of an image."""
        return self._keys[index]

    def sample(self, index: int) -> Sample:
        """Read an image; raises CorruptSampleError."""
        try:
            image = self._images(index)
        except OSError as error:
            raise CorruptSampleError(self._keys[index], str(error.strerror or error)) from error
        if not image:
            raise CorruptSampleError(self._keys[index], "no image")
        return Sample(self._keys[index], image, ())

    def reading(self, _places: Sequence[Place]) -> AbstractContextManager[Reading]:
        """Return a context in which the samples of a batch can be read."""
        return nullcontext(self.sample)


def open_pictures(
    wanted: CaptionedData, report: Report = lambda _: None, *, captions: bool = True
) -> tuple[Dataset, bool]:
    """Open images with captions, or without where the data have none; return them and whether they have captions.

    Args:
        wanted: where they are.
        report: receives sentences on what was found and left out.
        captions: whether captions are wanted; otherwise images of rows, files and members without one are opened too.

    Raises:
        DataError: there are no images.
    """
    bare = _without(wanted, captions=captions)
    if bare is None and not captions:
        bare = _bare_tars(wanted)
    if bare is None:
        try:
            return open_captioned(wanted, report), True
        except DataError:
            bare = _bare_tars(wanted)
            if bare is None:
                raise
    why = " without captions, so only images are embedded" if captions else ""
    report(f"{wanted.data}: {counted(len(bare), 'image')}{why}")
    return bare, False


def _without(wanted: CaptionedData, *, captions: bool) -> BareSamples | None:
    """Return the images of a folder or of Parquet without captions, or whose captions do not count; else None."""
    path = wanted.data
    if wanted.caption_column is not None or wanted.images is not None or not path.exists():
        return None
    if path.is_file():
        is_table = path.suffix.lower() in (".parquet", ".pq") and has_images(path)
        return _bare_parquet([path], wanted, captions=captions) if is_table else None
    if not path.is_dir() or (path / MANIFEST_NAME).is_file():
        return None
    tars, folder, _ = tars_of(path, wanted.split)
    tables = sorted(folder.glob("[!.]*.parquet"))
    if tars or (tables and not has_images(tables[0])) or (captions and not tables and has_captions(folder)):
        return None
    return _bare_parquet(tables, wanted, captions=captions) if tables else _bare_folder(folder)


def _bare_folder(folder: Path) -> BareSamples | None:
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower().removeprefix(".") in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)
    ]
    if not paths:
        return None
    keys = [path.relative_to(folder).as_posix() for path in paths]
    return BareSamples(folder, "folder", keys, lambda index: paths[index].read_bytes())


def _bare_parquet(paths: Sequence[Path], wanted: CaptionedData, *, captions: bool) -> BareSamples | None:
    files = [open_parquet(path) for path in paths]
    schema = files[0].schema_arrow
    if captions and {name.lower() for name in schema.names} & set(CAPTION_COLUMNS):
        return None
    for path, file in zip(paths, files, strict=True):
        if not file.schema_arrow.equals(schema):
            raise DataError(f"{path} has other columns than {paths[0]}: give the files of one set")
    labelled = LabelledData(wanted.data, split=wanted.split, image_column=wanted.image_column)
    image = image_column(schema, labelled)
    names = [name for name in ("key", "split") if name in schema.names]
    count = sum(file.metadata.num_rows for file in files)
    table = pa.concat_tables(file.read(columns=names) for file in files) if names else None
    keys = [f"row {row}" for row in range(count)]
    if table is not None and "key" in names:
        keys = [str(key) if key is not None else keys[row] for row, key in enumerate(table["key"].to_pylist())]
    rows, split = list(range(count)), "rows"
    if table is not None and "split" in names:
        splits = table["split"].to_pylist()
        split = chosen_split(list(dict.fromkeys(splits)), labelled)
        rows = [row for row in rows if splits[row] == split]
    elif wanted.split is not None and not wanted.data.is_dir():
        raise DataError(f"{wanted.data} has no column split, so it has no split {wanted.split!r}: leave the split out")
    if not rows:
        raise DataError(f"{wanted.data} holds no images")
    images = ParquetImages(files, image)
    return BareSamples(wanted.data, split, [keys[row] for row in rows], lambda index: images(rows[index]))


def _bare_tars(wanted: CaptionedData) -> BareSamples | None:
    """Return the images of tars; None if there are no tars, or no images in them."""
    path = wanted.data
    if wanted.caption_column is not None or wanted.images is not None:
        return None
    tars: list[Path] = [path] if path.name.lower().endswith(TAR_ENDINGS) and path.is_file() else []
    if not path.exists() and any(sign in str(path) for sign in "*?[{"):
        tars = local_tars([str(path)])
    split: str | None = None
    if path.is_dir() and not (path / MANIFEST_NAME).is_file():
        tars, _, split = tars_of(path, wanted.split)
    if not tars:
        return None
    found = read_tars(tars)
    if not found.keys:
        return None
    return BareSamples(path, split or "tars", found.keys, lambda index: found.images(found.places[index]))

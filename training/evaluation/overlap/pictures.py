"""Find the training images of a report again, where it says that they are, and make small pictures of images."""

import base64
import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import xxhash
from PIL import Image

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.images.opening import OTHER_FORMATS, open_image, upright_srgb
from openwit.training.data.tar_samples import IMAGE_SUFFIXES
from openwit.training.evaluation.classification_readers import (
    LabelledData,
    ParquetImages,
    image_column,
    open_parquet,
)
from openwit.training.evaluation.overlap.report import Pair

SIZE = 160
_MOST_BYTES = 64 * 1024 * 1024
_NAME_MASK = (1 << 20) - 1


class TrainingPictures:
    """Reads training images; a table stays open for the next one.

    Args:
        report: the file of the report: relative paths are those of the folder in which `wit` ran, here or beside it.
    """

    def __init__(self, report: Path) -> None:
        self._beside = report.resolve().parent
        self._tables: dict[Path, ParquetImages] = {}

    def image(self, pair: Pair) -> bytes | None:
        """Return the image of a pair as stored; None if it is not here any more."""
        if not pair.file or "://" in pair.file:
            return None
        try:
            path = next((each for each in (Path(pair.file), self._beside / pair.file) if each.exists()), None)
            if path is None:
                return None
            if path.is_dir():
                return _in_folder(path, pair)
            if path.suffix == ".parquet":
                return None if pair.place is None else self._row(path, pair.place)
            if path.suffix.lower().removeprefix(".") in IMAGE_SUFFIXES:
                return path.read_bytes()
            return None if pair.place is None else _in_tar(path, pair.place)
        except (OSError, OpenWITError, tarfile.TarError, IndexError, ValueError):
            return None

    def _row(self, path: Path, row: int) -> bytes:
        if path not in self._tables:
            file = open_parquet(path)
            self._tables[path] = ParquetImages([file], image_column(file.schema_arrow, LabelledData(path)))
        return self._tables[path](row)


def _in_tar(path: Path, offset: int) -> bytes | None:
    """Return the member whose data begin at an offset, by the header before it."""
    with path.open("rb") as file:
        file.seek(offset - tarfile.BLOCKSIZE)
        size = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "replace").size
        return file.read(size) if size <= _MOST_BYTES else None


def _in_folder(path: Path, pair: Pair) -> bytes | None:
    """Return an image of a folder: by its key, else by the builder's place, whose low bits are a hash of its name."""
    names = [f"{pair.key}.{suffix}" for suffix in IMAGE_SUFFIXES] if pair.key else []
    found = [path / name for name in names if (path / name).is_file()]
    if not found and pair.place is not None:
        wanted = pair.place & _NAME_MASK
        found = [
            each
            for each in sorted(path.iterdir())
            if xxhash.xxh3_64_intdigest(os.fsencode(each.name)) & _NAME_MASK == wanted and each.is_file()
        ]
    return found[0].read_bytes() if len(found) == 1 else None


def thumbnail(image: bytes | None) -> str | None:
    """Return a data URL of a small JPEG; None for what cannot be decoded."""
    try:
        with open_image(image or b"", other_formats=OTHER_FORMATS) as opened:
            picture = upright_srgb(opened)
            picture.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            picture.convert("RGB").save(out, "JPEG", quality=85)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def evenly(count: int, limit: int) -> Sequence[int]:
    """Return at most `limit` numbers below `count`, spread evenly; the same ones each time."""
    return range(count) if count <= limit else [number * count // limit for number in range(limit)]

"""Read images and captions from the rows of Parquet files that hold the images' bytes."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.wording import counted
from openwit.training.data.captioned_files import CAPTION_COLUMNS
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sharded import Place, Reading, Sample
from openwit.training.evaluation.classification_readers import (
    LabelledData,
    ParquetImages,
    chosen_split,
    holds_bytes,
    image_column,
    open_parquet,
)


class ParquetSamples:
    """Images and captions of rows. Rows are best read in order, as one row group is in memory at a time.

    Args:
        folder: of the files.
        split: of the rows.
        images: reads an image by its row.
        rows: (N,) rows of the samples.
        keys, texts: of the samples.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        split: str,
        images: ParquetImages,
        rows: Sequence[int],
        keys: Sequence[str],
        texts: Sequence[tuple[str, ...]],
    ) -> None:
        self.folder, self.name, self.split = folder, name, split
        self._images, self._rows, self._keys, self._texts = images, rows, keys, texts
        digest = hashlib.sha256(repr((list(rows), list(keys), list(texts))).encode(errors="surrogateescape"))
        self.manifest_sha256 = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._rows)

    def key(self, index: int) -> str:
        """Return the key of a sample, or the number of its row."""
        return self._keys[index]

    def sample(self, index: int) -> Sample:
        """Read a sample; raises CorruptSampleError if its row has no image."""
        image = self._images(self._rows[index])
        if not image:
            raise CorruptSampleError(self._keys[index], "no image")
        return Sample(self._keys[index], image, self._texts[index])

    def reading(self, _places: Sequence[Place]) -> AbstractContextManager[Reading]:
        """Return a context in which the samples of a batch can be read."""
        return nullcontext(self.sample)


def has_images(path: Path) -> bool:
    """Return whether a Parquet file has a column of bytes. Raises DataError if it is damaged."""
    return any(holds_bytes(column.type) for column in open_parquet(path).schema_arrow)


def captioned_parquet(
    paths: Sequence[Path],
    wanted: LabelledData,
    *,
    caption: str | None,
    report: Callable[[str], None],
) -> ParquetSamples:
    """Open rows of an image and a caption, or a list of captions.

    Args:
        paths: the files of one set.
        wanted: path as it was given, split and column of images.
        caption: column of captions; None: the one with a usual name.
        report: receives a sentence on what was found.

    Raises:
        DataError: a file is damaged, has other columns, or no row has a caption.
    """
    files = [open_parquet(path) for path in paths]
    schema = files[0].schema_arrow
    for path, file in zip(paths, files, strict=True):
        if not file.schema_arrow.equals(schema):
            raise DataError(f"{path} has other columns than {paths[0]}: give the files of one set")
    image, words = image_column(schema, wanted), _caption_column(schema, wanted.data, caption)
    further = [name for name in ("key", "split") if name in schema.names and name != words]
    table = pa.concat_tables(file.read(columns=[words, *further]) for file in files)
    splits = table["split"].to_pylist() if "split" in further else None
    if splits is None and wanted.split is not None and not wanted.data.is_dir():
        raise DataError(f"{wanted.data} has no column split, so it has no split {wanted.split!r}: leave the split out")
    split = "rows" if splits is None else chosen_split(list(dict.fromkeys(splits)), wanted)
    keys = table["key"].to_pylist() if "key" in further else [None] * table.num_rows
    rows, names, texts, empty = [], [], [], 0
    for row, (key, value) in enumerate(zip(keys, table[words].to_pylist(), strict=True)):
        if splits is not None and splits[row] != split:
            continue
        found = _texts(value)
        if not found:
            empty += 1
            continue
        rows.append(row)
        names.append(str(key) if key is not None else f"row {row}")
        texts.append(found)
    if not rows:
        raise DataError(f"{wanted.data} has no row with a caption in column {words}")
    aside = f"; left aside: {counted(empty, 'row')} without a caption" if empty else ""
    report(f"{wanted.data}: {counted(sum(map(len, texts)), 'caption')} of {counted(len(rows), 'image')}{aside}")
    name = wanted.data.resolve().name.removesuffix(".parquet")
    return ParquetSamples(paths[0].parent, name, split, ParquetImages(files, image), rows, names, texts)


def _caption_column(schema: pa.Schema, path: Path, given: str | None) -> str:
    lower = {name.lower(): name for name in reversed(schema.names)}
    name = given if given is not None else next((lower[each] for each in CAPTION_COLUMNS if each in lower), None)
    if name is None or name not in schema.names:
        raise DataError(
            f"{path} has no column {name or ' or '.join(CAPTION_COLUMNS[:4])} of captions (it has: "
            f"{', '.join(schema.names)}): name it with --caption-column"
        )
    kind = schema.field(name).type
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    if not (pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_struct(inner)):
        raise DataError(f"column {name} of {path} is of type {kind}: captions are texts, or lists of them")
    return name


def _texts(value: Any) -> tuple[str, ...]:
    """Return the captions of a cell: a text, a list of texts, or of structs with `raw` as Hugging Face's COCO has."""
    found = value if isinstance(value, list) else [value]
    plain = [each.get("raw") if isinstance(each, dict) else each for each in found]
    return tuple(text.strip() for text in plain if isinstance(text, str) and text.strip())

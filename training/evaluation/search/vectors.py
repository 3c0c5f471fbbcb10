"""Open embeddings of either layout: `wit-train embed`'s (clip-retrieval's), or those of the stage `embed` of a build.

Vectors are read block by block from memory-mapped arrays, or row group by row group from Parquet: memory does not grow
with their number.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.sealed import unseal
from openwit.training.evaluation.search.parts import SUMMARY, VECTORS, read_summary

BLOCK = 65_536
"""Vectors of a block."""
STAGE_MANIFEST = ".stage/manifest.json"
_COLUMNS = {"images": "image_embedding", "texts": "text_embedding"}


@dataclass(frozen=True)
class VectorFile:
    """A file of vectors, and the table of what each row is; one file is both in a build."""

    vectors: Path
    metadata: Path
    rows: int


@dataclass(frozen=True)
class Vectors:
    """Embeddings of images or of texts.

    Attributes:
        folder: of the embeddings.
        of: `images` or `texts`.
        files: in order.
        dimension: of a vector.
        model: identity of the weights that made them; empty if they are not recorded.
        source: how the data were named, to find their images again.
        model_path: how the model was named; empty if it is not recorded.
    """

    folder: Path
    of: str
    files: Sequence[VectorFile]
    dimension: int
    model: dict[str, Any]
    source: dict[str, Any]
    model_path: str = ""

    def __len__(self) -> int:
        return sum(file.rows for file in self.files)

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (number of the first row, (rows, D) float32) blocks in order.

        Raises:
            DataError: a file is missing, or has another shape than was recorded.
        """
        first = 0
        for file in self.files:
            for block in _blocks(file, self.of, size):
                if block.ndim != 2 or block.shape[1] != self.dimension:
                    raise DataError(f"{file.vectors} has vectors of another size than {self.dimension}: embed again")
                yield first, np.ascontiguousarray(block, dtype=np.float32)
                first += len(block)
        if first != len(self):
            raise DataError(f"{self.folder} holds {first:,} vectors, but {len(self):,} were written: embed again")

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return what each of some rows is: `key`, `caption`, `url`, and `sample` if it is known."""
        ends = list(accumulate(file.rows for file in self.files))
        found = []
        for number in numbers:
            at = bisect_right(ends, number)
            inside = number - (ends[at - 1] if at else 0)
            found.append(_row(self.files[at].metadata, inside))
        return found


def open_vectors(folder: Path, of: str = "images") -> Vectors:
    """Open the embeddings of a folder.

    Args:
        folder: of `wit-train embed`, or of the stage `embed` of a build.
        of: `images` or `texts`.

    Raises:
        DataError: it holds no finished embeddings, or not of this kind.
    """
    refuse_special(folder, str(folder))
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder of embeddings")
    found = _of_stage(folder, of) if not (folder / SUMMARY).exists() and (folder / STAGE_MANIFEST).exists() else None
    found = _of_command(folder, of) if found is None else found
    if not len(found):
        raise DataError(f"{folder} holds no vectors: none of its images could be read")
    return found


def _of_command(folder: Path, of: str) -> Vectors:
    summary = read_summary(folder)
    if of not in summary["of"]:
        raise DataError(f"{folder} holds embeddings of {' and '.join(summary['of'])} only, not of {of}")
    files = []
    for part in summary["parts"]:
        paths = {path.split("/")[0]: folder / path for path in (entry["path"] for entry in part["files"])}
        if part["rows"]:
            files.append(VectorFile(paths[VECTORS[of]], paths["metadata"], part["rows"]))
    about = summary["about"]
    return Vectors(folder, of, files, summary["dimension"], summary["model"], summary["source"], about.get("path", ""))


def _of_stage(folder: Path, of: str) -> Vectors:
    path = folder / STAGE_MANIFEST
    manifest = json.loads(unseal(path.read_bytes(), path, required=False))
    extra = manifest.get("extra") or {}
    if manifest.get("stage") != "embed" or not isinstance(extra.get("functions"), dict):
        raise DataError(f"{folder} holds the {manifest.get('stage')!r} stage of a build, not its embeddings")
    if of not in extra["functions"]:
        raise DataError(f"{folder} holds embeddings of {' and '.join(extra['functions'])} only, not of {of}")
    files = [
        VectorFile(folder / entry["path"], folder / entry["path"], _count(folder / entry["path"]))
        for entry in sorted(manifest["files"], key=lambda entry: entry["path"])
        if entry["path"].startswith("embeddings/")
    ]
    function = extra["functions"][of]
    dataset = str(extra["dataset"])
    source = {"data": dataset if "://" in dataset else str((folder / dataset).resolve()), "by_key": True}
    dimension = int(extra["dimensions"].get(of, 0))
    return Vectors(folder, of, files, dimension, function.get("identity") or {}, source, function.get("model", ""))


def _count(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _blocks(file: VectorFile, of: str, size: int) -> Iterator[NDArray[Any]]:
    try:
        if file.vectors.suffix == ".npy":
            array = np.load(file.vectors, mmap_mode="r")
            for start in range(0, len(array), size):
                yield array[start : start + size]
            return
        with pq.ParquetFile(file.vectors) as table:
            for batch in table.iter_batches(size, columns=[_COLUMNS[of]]):
                column = batch.column(0)
                yield column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{file.vectors} cannot be read: {error}") from None


def _row(path: Path, row: int) -> dict[str, Any]:
    """Return one row of a table without its vectors; only its row group is read."""
    with pq.ParquetFile(path) as table:
        names = [name for name in ("key", "caption", "url", "sample", "split") if name in table.schema_arrow.names]
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            if row < count:
                found: dict[str, Any] = table.read_row_group(group, columns=names).slice(row, 1).to_pylist()[0]
                return found
            row -= count
    raise DataError(f"{path} has fewer rows than vectors: embed again")

"""Keep the images of a chunk out of memory while it runs, and write them sorted by URL at the end."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from openwit.pipeline.execution.files import read_columns
from openwit.pipeline.images.process import ProcessedImage
from openwit.schemas.common.atomic import TEMPORARY_PREFIX
from openwit.schemas.tables.images import IMAGES

# Row groups of the images file: what a later pass holds in memory at once.
_ROW_GROUP = 1024
_GROUP_BYTES = 32 << 20
_MEMORY_BYTES = 32 << 20
_PAIR_FIELDS = tuple(field.name for field in IMAGES.arrow.field("pairs").type.value_type)

Pairs = list[dict[str, Any]]


class ImageSpill:
    """Finished images by URL; beyond `memory_bytes` their files are in an unlinked file, which a kill removes.

    Args:
        folder: on the disk that the images are written to later.
        memory_bytes: maximum bytes of image files in memory.
    """

    def __init__(self, folder: Path, memory_bytes: int = _MEMORY_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.SpooledTemporaryFile(memory_bytes, dir=str(folder), prefix=TEMPORARY_PREFIX)  # noqa: SIM115
        self._facts: dict[str, tuple[dict[str, Any], int, int]] = {}
        self._end = 0

    def __enter__(self) -> "ImageSpill":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory and the file."""
        self._file.close()

    def add(self, url: str, image: ProcessedImage, original_bytes: int) -> None:
        """Add an image; `original_bytes` is the size of its body as served."""
        self._file.seek(self._end)
        self._file.write(image.data)
        self._facts[url] = (_facts(image, original_bytes), self._end, len(image.data))
        self._end += len(image.data)

    def rows(self, pairs: Mapping[str, Pairs]) -> Iterator[dict[str, Any]]:
        """Yield rows of IMAGES sorted by URL, with the pairs of each."""
        for url in sorted(self._facts):
            facts, start, length = self._facts[url]
            self._file.seek(start)
            yield _row(url, pairs[url], facts, self._file.read(length))

    def __contains__(self, url: object) -> bool:
        return url in self._facts

    def __len__(self) -> int:
        return len(self._facts)


def write_images(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows of IMAGES in row groups of limited rows and bytes, so that readers need little memory."""
    with IMAGES.writing(path, _ROW_GROUP) as write:
        for group in _groups(rows):
            write(pa.Table.from_pylist(group, schema=IMAGES.arrow))


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        if group and (len(group) == _ROW_GROUP or size + len(row["image"]) > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(row)
        size += len(row["image"])
    if group:
        yield group


def read_image_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of an images file in order, one row group in memory at a time."""
    for table in IMAGES.read_batches(path):
        yield from table.to_pylist()


def image_pairs(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (URL, number of its pairs) of an images file, without reading images."""
    table = read_columns(path, ["url", "pairs"])
    for url, pairs in zip(table.column("url").to_pylist(), table.column("pairs"), strict=True):
        yield url, len(pairs)


def _facts(image: ProcessedImage, original_bytes: int) -> dict[str, Any]:
    return {
        "width": image.width,
        "height": image.height,
        "original_width": image.original_width,
        "original_height": image.original_height,
        "original_format": image.original_format,
        "original_bytes": original_bytes,
        "sha256": image.sha256,
        "format": image.format,
        "exif": image.exif,
        "pixels_hash": image.pixels_hash,
        "phash": image.phash,
        "fingerprint": image.descriptor,
    }


def _row(url: str, pairs: Pairs, facts: dict[str, Any], image: bytes) -> dict[str, Any]:
    # If any pair is held out, the image is held out: its duplicates must not be trained on.
    split = min((pair["split"] for pair in pairs), key=lambda name: (name == "train", name))
    listed = [{name: pair[name] for name in _PAIR_FIELDS} for pair in pairs]
    return {"url": url, "split": split, "pairs": listed, **facts, "image": image}

"""Keep a few of the images that deduplication dropped, with their pictures, in a table small enough for the card."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import xxhash

from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.jobs import TaskResult
from openwit.pipeline.images.resize import thumbnail
from openwit.pipeline.stages.sidecars import EXAMPLES_FILE
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.manifest import FileEntry
from openwit.schemas.tables.images import DUPLICATE_EXAMPLES

_A_REASON = 6

Row = dict[str, Any]


@dataclass(frozen=True)
class KeptExamples:
    """Examples of dropped images; see `ExamplePicker`."""

    examples: list[Row]


class ExamplePicker:
    """Pick, per reason, the few images whose URLs have the smallest hashes: arbitrary, but always the same.

    Args:
        file: number of the images file, for images without this number.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._found: dict[str, list[Row]] = {}

    def offer(self, reason: str, image: Row, distance: int | None, kept: Row | None) -> None:
        """Offer a dropped image and its survivor: an image with its position, or the name of an evaluation image."""
        found = self._found.setdefault(reason, [])
        order = xxhash.xxh3_64_hexdigest(str(image["url"]).encode())
        if len(found) == _A_REASON and order >= found[-1]["order"]:
            return
        example = {"order": order, "reason": reason, "distance": distance, **self._side("", image)}
        example |= self._side("kept_", kept or {"url": None})
        found.append(example)
        found.sort(key=lambda row: str(row["order"]))
        del found[_A_REASON:]

    def chosen(self) -> list[Row]:
        """Return the examples, ready for JSON."""
        return [row for _, rows in sorted(self._found.items()) for row in rows]

    def _side(self, prefix: str, image: Row) -> Row:
        pairs = image.get("pairs")
        return {
            f"{prefix}url": image["url"],
            f"{prefix}text": pairs[0]["text"] if pairs else None,
            f"{prefix}file": image.get("file", self._file),
            f"{prefix}row": image.get("row"),
        }


def write_examples(folder: Path, files: Sequence[Path], results: Sequence[TaskResult]) -> list[FileEntry]:
    """Write the examples of all files with their pictures; return what was written, if any."""
    offered = sorted(
        (row for r in results for row in r.extra_as(KeptExamples).examples), key=lambda r: (r["reason"], r["order"])
    )
    if not offered:
        return []
    rows, count = [], dict.fromkeys((row["reason"] for row in offered), 0)
    for row in offered:
        count[row["reason"]] += 1
        if count[row["reason"]] <= _A_REASON:
            row["image"] = _thumbnail_of(files[row["file"]], row["row"])
            row["kept_image"] = (
                None if row["kept_row"] is None else _thumbnail_of(files[row["kept_file"]], row["kept_row"])
            )
            rows.append(row)
    table = DUPLICATE_EXAMPLES.table({name: [row[name] for row in rows] for name in DUPLICATE_EXAMPLES.arrow.names})
    DUPLICATE_EXAMPLES.write(folder / EXAMPLES_FILE, table)
    return [file_entry(folder, folder / EXAMPLES_FILE)]


def _thumbnail_of(path: Path, row: int) -> bytes:
    """Return a thumbnail of one image of a file; reads the row group that holds it."""
    with pq.ParquetFile(cached(path)) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < rows:
                return thumbnail(file.read_row_group(group, columns=["image"]).column("image")[row].as_py())
            row -= rows
    raise IndexError(f"{path} has no row {row} more")

"""Report which evaluation images are in a dataset: every pair of an evaluation image and a sample that show the same.

Deduplication finds for each image of a dataset the nearest evaluation image. An evaluation set may hold one twice: the
few images that were found are compared here with all evaluation images.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.decontamination.images import EVALUATION_IMAGES
from openwit.schemas.tables.overlap import OVERLAP

SAME_BYTES, SAME_PIXELS = "same_bytes", "same_pixels"


class Evaluation:
    """All evaluation images, compared by brute force.

    Args:
        table: of `EVALUATION_IMAGES`, E rows.
        max_distance: bits in which hashes may differ.
    """

    def __init__(self, table: pa.Table, max_distance: int) -> None:
        self.table = table.combine_chunks()
        self._max_distance = max_distance
        lists = self.table.column("hashes").combine_chunks()
        self._hashes = lists.flatten().to_numpy()
        self._owners = pc.list_parent_indices(lists).to_numpy()
        self._names = self.table.column("variants").combine_chunks().flatten()
        self._sums = {
            name: np.array(self.table.column(name).to_pylist(), object) for name in ("sha256", "pixels_hash")
        }

    def near(self, image: dict[str, Any]) -> list[tuple[int, str, int]]:
        """Return row, variant and distance of the evaluation images that show what an image shows.

        Args:
            image: with `phash`, `sha256` and `pixels_hash`.
        """
        found: dict[int, tuple[str, int]] = {}
        bits = np.bitwise_count(self._hashes ^ np.uint64(image["phash"]))
        for at in np.flatnonzero(bits <= self._max_distance).tolist():
            row, distance = int(self._owners[at]), int(bits[at])
            if row not in found or distance < found[row][1]:
                found[row] = (self._names[at].as_py(), distance)
        for column, name in (("pixels_hash", SAME_PIXELS), ("sha256", SAME_BYTES)):
            for row in np.flatnonzero(self._sums[column] == image[column]).tolist():
                found[row] = (name, 0)
        return [(row, variant, distance) for row, (variant, distance) in sorted(found.items())]


def overlap_table(evaluation: Evaluation, images: Iterator[tuple[dict[str, Any], dict[str, Any]]]) -> pa.Table:
    """Return `OVERLAP`, in the order of the evaluation images.

    Args:
        evaluation: all evaluation images.
        images: those that were found: with hashes, and the `sample_…` columns of each.
    """
    files, members, sums = (evaluation.table.column(name).to_pylist() for name in ("file", "member", "sha256"))
    rows: list[list[dict[str, Any]]] = [[] for _ in files]
    for image, sample in images:
        for row, variant, distance in evaluation.near(image):
            rows[row].append({**sample, "variant": variant, "distance": distance})
    listed: list[dict[str, Any]] = []
    for row, found in enumerate(rows):
        named = {"evaluation_file": files[row], "evaluation_member": members[row], "evaluation_sha256": sums[row]}
        order = sorted(found, key=lambda pair: (pair["distance"], str(pair["sample_url"]), str(pair["sample_uid"])))
        listed += [{**named, **pair} for pair in order] or [named]
    return pa.Table.from_pylist(listed, schema=OVERLAP.arrow)


def evaluation_table(paths: Sequence[Path]) -> pa.Table:
    """Read files of `EVALUATION_IMAGES`."""
    return pa.concat_tables([EVALUATION_IMAGES.empty(), *(EVALUATION_IMAGES.read(path) for path in paths)])

"""Tests for the order of the inputs."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openwit.pipeline.execution.files import read_columns
from openwit.pipeline.readers.samples.folders import stored_place
from openwit.pipeline.stages.shard import input_order
from openwit.pipeline.stages.shard.input_order import plan_order
from openwit.schemas.common.errors import DataError

FAR = 1 << 20


def survivors(path: Path, images: list[list[tuple[str, int]]]) -> Path:
    """Write images of one split, each with the file and the place of each of its texts."""
    pairs = [[{"archive": name, "record_offset": place} for name, place in texts] for texts in images]
    kind = pa.list_(pa.struct([("archive", pa.string()), ("record_offset", pa.int64())]))
    pq.write_table(pa.table({"pairs": pa.array(pairs, kind), "split": ["train"] * len(images)}), path)
    return path


def shards(files: list[Path], number: int, inputs: list[str]) -> tuple[list[int], list[int]]:
    """Return the rank of each image by its place, and its shard."""
    order = plan_order(files, {"train": number}, inputs)
    places = np.concatenate([order.places(pq.read_table(path)) for path in files])
    return np.argsort(np.argsort(places)).tolist(), order.shards_of("train", places).tolist()


def test_images_far_in_a_folder_are_in_order_in_even_shards(tmp_path: Path) -> None:
    first = FAR - 4
    images = [[("photos/", stored_place(first + n, f"{first + n}.jpg"))] for n in range(16)]
    path = survivors(tmp_path / "a.parquet", images)
    assert shards([path], 4, ["photos"]) == (list(range(16)), [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4)


def test_images_beyond_a_terabyte_of_a_tar_are_in_order(tmp_path: Path) -> None:
    images = [[(name, (1 << 40) + n)] for name in ("b.tar", "a.tar") for n in range(4)]
    path = survivors(tmp_path / "a.parquet", images)
    assert shards([path], 4, ["b.tar", "a.tar"]) == (list(range(8)), [0, 0, 1, 1, 2, 2, 3, 3])


def test_only_fields_that_are_needed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[set[str]] = []

    def spy(path: Path, columns: list[str]) -> pa.Table:
        table = read_columns(path, columns)
        read.append({field.name for field in table.schema.field("pairs").type.value_type})
        return table

    monkeypatch.setattr(input_order, "read_columns", spy)
    plan_order([survivors(tmp_path / "a.parquet", [[("a.tar", 0)]])], {"train": 1}, ["a.tar"])
    assert read == [{"archive"}, {"archive", "record_offset"}]


def test_a_place_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = survivors(tmp_path / "a.parquet", [[("a.tar", (1 << 63) - 1)], [("b.tar", 0)], [("c.tar", 0)]])
    with pytest.raises(DataError, match=r"in a\.tar is too far"):
        plan_order([path], {"train": 1}, ["a.tar", "b.tar", "c.tar"])

"""Tests for keys of the inputs that are checked before anything is fetched."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openwit.pipeline.common.column_values import KEY, json_row
from openwit.pipeline.stages.shard.input_keys import check_selected_keys
from openwit.schemas.common.errors import DataError


def selected(folder: Path, rows: list[tuple[str, str | None]]) -> list[Path]:
    """Write (URL, key) of pairs in two files of a selection."""
    paths = []
    for number, part in enumerate((rows[::2], rows[1::2])):
        columns = [json_row({} if key is None else {KEY: key}) for _, key in part]
        table = pa.table({"url": [url for url, _ in part], "columns": pa.array(columns, pa.string())})
        paths.append(folder / f"{number}.parquet")
        pq.write_table(table, paths[-1])
    return paths


@pytest.mark.parametrize(
    "rows",
    [
        [("u", "a"), ("v", "b")],
        [("u", "a"), ("u", "a"), ("v", "b")],  # a URL twice is one sample
        [("u", "a"), ("u", "b"), ("v", "b")],  # which key the first image has is decided later
        [("u", "a"), ("u", None), ("v", "b")],
        [("u", "a.b"), ("u", "b"), ("v", "c")],
    ],
)
def test_keys_that_may_be_those_of_a_dataset_pass(tmp_path: Path, rows: list[tuple[str, str | None]]) -> None:
    check_selected_keys(selected(tmp_path, rows))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("u", "a"), ("v", "b"), ("w", "a")], r"several samples have the key 'a' of their inputs \(1 key\): set"),
        ([("u", "a"), ("v", None)], "1 samples have no key of their inputs: set shard.keys to number"),
        ([("u", "a"), ("v", "b/c")], "key 'b/c' of an input cannot name files of a sample"),
    ],
)
def test_other_keys_are_refused(tmp_path: Path, rows: list[tuple[str, str | None]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_selected_keys(selected(tmp_path, rows))

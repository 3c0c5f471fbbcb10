"""Rows routed through files: a destination gets its rows in order, from few bytes of each file."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.execution import routed
from openwit.pipeline.execution.routed import RoutedWriter, read_all_routed, read_routed
from openwit.schemas.common.errors import StorageError

SCHEMA = pa.schema([pa.field("n", pa.int64()), pa.field("texts", pa.list_(pa.string()))])
FILES = st.lists(st.lists(st.lists(st.integers(0, 6), max_size=12), max_size=5), min_size=1, max_size=3)


def rows(numbers):
    return pa.table({"n": numbers, "texts": [[f"text {n}"] * (n % 3) for n in numbers]}, schema=SCHEMA)


def written(path, parts, first=0):
    """Write a file whose parts are lists of destinations; return (destination, number) of each row."""
    made = []
    with RoutedWriter(path, SCHEMA, 7) as writer:
        for destinations in parts:
            numbers = list(range(first, first + len(destinations)))
            first += len(destinations)
            made += zip(destinations, numbers, strict=True)
            writer.add(rows(numbers), np.array(destinations, np.int64))
    return made


@settings(deadline=None, max_examples=40)
@given(FILES, st.sampled_from([1, 100, 1 << 20]), st.sampled_from([1, 3, 1000]), st.sampled_from([1, 4, 64]))
def test_a_destination_gets_its_rows_in_their_order(tmp_path_factory, files, run_bytes, merge_rows, message_rows):
    folder = tmp_path_factory.mktemp("routed")
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routed, "_RUN_BYTES", run_bytes)
        patch.setattr(routed, "_MERGE_ROWS", merge_rows)
        patch.setattr(routed, "_MESSAGE_ROWS", message_rows)
        for number, parts in enumerate(files):
            made += written(folder / str(number), parts, len(made))
    paths = [folder / str(number) for number in range(len(files))]
    for destination in range(7):
        expected = rows([n for to, n in made if to == destination])
        assert read_all_routed(paths, SCHEMA, destination).combine_chunks().equals(expected)
    assert sorted(folder.iterdir()) == paths


def test_a_file_is_a_function_of_its_rows(tmp_path):
    parts = [[3, 1, 1], [0, 3]]
    written(tmp_path / "a", parts)
    written(tmp_path / "b", parts)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_reader_reads_little(tmp_path, monkeypatch):
    """Bytes read for one of many destinations do not grow with the file."""
    read = []
    original = routed.read_range
    monkeypatch.setattr(
        routed, "read_range", lambda f, p, start, size: read.append(size) or original(f, p, start, size)
    )
    for size in (1_000, 4_000):
        with RoutedWriter(tmp_path / "f", SCHEMA, size) as writer:
            writer.add(rows(list(range(size))), np.arange(size))
        read.clear()
        assert read_routed(tmp_path / "f", SCHEMA, size // 2).column("n").to_pylist() == [size // 2]
        assert sum(read) < 4_000
        assert len(read) == 3


def test_what_is_cut_short_is_said_and_errors_leave_no_file(tmp_path: Path) -> None:
    written(tmp_path / "f", [[0, 1, 6]])
    data = (tmp_path / "f").read_bytes()
    for part in (b"", data[:4], data[:100], data[-8:], data[-20:], data[-100:]):
        (tmp_path / "f").write_bytes(part)
        with pytest.raises(StorageError, match="is cut short: run the same command"):
            read_routed(tmp_path / "f", SCHEMA, 0)
    (tmp_path / "f").unlink()
    with pytest.raises(RuntimeError), RoutedWriter(tmp_path / "f", SCHEMA, 7) as writer:
        writer.add(rows([1]), np.array([1]))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []

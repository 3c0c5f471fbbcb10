import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.execution.blobs import bucket_count, concat_blobs, from_blob, split_by, to_blob


@given(st.lists(st.tuples(st.integers(0, 5), st.text(max_size=4)), max_size=40))
def test_split_keeps_every_row_once_and_in_order(rows):
    table = pa.table(
        {"key": pa.array([r[0] for r in rows], pa.int64()), "text": pa.array([r[1] for r in rows], pa.string())}
    )
    parts = list(split_by(table, np.array([r[0] for r in rows], np.int64)))
    assert [key for key, _ in parts] == sorted({r[0] for r in rows})
    for key, part in parts:
        assert part.column("text").to_pylist() == [text for k, text in rows if k == key]


def test_blobs_hold_slices_only():
    table = pa.table({"n": list(range(100_000))})
    blob = to_blob(table.slice(10, 3))
    assert len(blob) < 1000
    assert from_blob(blob).column("n").to_pylist() == [10, 11, 12]
    assert concat_blobs([blob, blob]).num_rows == 6


def test_buckets_grow_with_the_rows():
    assert [bucket_count(rows) for rows in (0, 1, 10**6, 2.5e8, 10**9, 10**10)] == [64, 64, 64, 64, 256, 4096]

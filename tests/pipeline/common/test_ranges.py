"""Ranges of local and remote files; and remote files of which many tasks read a part are not fetched by each."""

import io

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.common.ranges import RangeFile, open_ranges
from openwit.pipeline.decontamination.files import list_pieces, read_piece
from openwit.schemas.common.errors import DataError, NetworkError

DATA = bytes(range(256)) * 40


@pytest.fixture
def fetched(monkeypatch):
    """The ranges that are fetched from the store."""
    found = []
    fetch = RangeFile._fetch
    monkeypatch.setattr(RangeFile, "_fetch", lambda self, a, b: found.append((a, b)) or fetch(self, a, b))
    return found


@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_range_keeps_the_positions_of_the_file(tmp_path, where):
    name = str(tmp_path / "x.bin") if where == "local" else "memory://ranges/x.bin"
    with fsspec.open(name, "wb") as file:
        file.write(DATA)
    with open_ranges(name, start=100, end=5000) as file:
        assert file.tell() == 100
        assert file.read() == DATA[100:5000]
        file.seek(4990)
        assert file.read(50) == DATA[4990:5000]
    with open_ranges(name) as file:
        assert file.read() == DATA
        assert file.seek(0, io.SEEK_END) == len(DATA)
    with pytest.raises((DataError, NetworkError), match="does not exist"):
        open_ranges(f"{name}.gone")


def test_pieces_of_a_remote_table_fetch_their_row_groups(monkeypatch, fetched):
    monkeypatch.setattr("openwit.pipeline.common.ranges._BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr("openwit.pipeline.decontamination.files._ROWS_A_PIECE", 100)
    bodies = [b"\xff\xd8\xff" + n.to_bytes(4, "big") * 200 for n in range(1000)]
    out = io.BytesIO()
    pq.write_table(pa.table({"image": bodies}), out, row_group_size=100, compression="none", use_dictionary=False)
    fsspec.filesystem("memory").pipe("/ranges/e.parquet", out.getvalue())
    pieces = list_pieces(["memory://ranges/e.parquet"])
    assert len(pieces) == 10
    fetched.clear()
    tally = ReasonCounter()
    assert [image.body for piece in pieces for image in read_piece(piece, tally)] == bodies
    assert not tally.counts
    # each piece fetches its part and the footer, a little more by blocks; copies would be ten times the file
    assert sum(end - start for start, end in fetched) < 5 * len(out.getvalue())

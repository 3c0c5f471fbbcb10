import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards.tar_writer import TarWriter, header


@given(st.lists(st.binary(max_size=1500), max_size=12))
def test_tarfile_reads_what_was_written_where_it_was_said_to_be(bodies):
    file = io.BytesIO()
    tar = TarWriter(file)
    places = [tar.add(f"{n:010d}.bin", body) for n, body in enumerate(bodies)]
    tar.close()
    data = file.getvalue()
    assert len(data) % 10_240 == 0
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as read:
        members = read.getmembers()
        assert [m.name for m in members] == [f"{n:010d}.bin" for n in range(len(bodies))]
        assert [read.extractfile(m).read() for m in members] == bodies
        assert [(m.offset_data, m.size) for m in members] == places
    assert [data[offset : offset + size] for offset, size in places] == bodies


def test_the_header_is_the_one_tarfile_writes():
    info = tarfile.TarInfo("0000000001.jpg")
    info.size, info.mode, info.mtime = 12345, 0o644, 0
    assert header("0000000001.jpg", 12345) == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 1), ("x", 8**11), ("x", -1)])
def test_what_does_not_fit_is_refused(name, size):
    with pytest.raises(ValueError, match="does not fit"):
        header(name, size)

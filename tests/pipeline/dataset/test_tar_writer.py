import hashlib
import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.dataset.tar_writer import TarWriter, headers, members


def archive_of(bodies, calls=1):
    """Bytes of an archive written in so many calls, and where its members were said to be."""
    file = io.BytesIO()
    digest = hashlib.sha256()
    tar = TarWriter(file, digest)
    names = [f"{n:010d}.bin" for n in range(len(bodies))]
    places = []
    for part in np.array_split(np.arange(len(bodies)), calls):
        offsets, sizes = tar.add([names[n] for n in part], [bodies[n] for n in part])
        places += zip(offsets.tolist(), sizes.tolist(), strict=True)
    tar.close()
    assert digest.hexdigest() == hashlib.sha256(file.getvalue()).hexdigest()
    return file.getvalue(), names, places


@given(st.lists(st.binary(max_size=1500), max_size=12), st.integers(1, 4))
def test_tarfile_reads_what_was_written_where_it_was_said_to_be(bodies, calls):
    data, names, places = archive_of(bodies, calls)
    assert len(data) % 10_240 == 0
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as read:
        found = read.getmembers()
        assert [m.name for m in found] == names
        assert [read.extractfile(m).read() for m in found] == bodies
        assert [(m.offset_data, m.size) for m in found] == places
    assert [data[offset : offset + size] for offset, size in places] == bodies
    assert [(m.name, m.data, m.size) for m in members(data)] == [(n, *p) for n, p in zip(names, places, strict=True)]


@given(st.lists(st.binary(max_size=700), min_size=1, max_size=9), st.sets(st.integers(0, 8)))
def test_members_that_are_copied_are_as_if_written(bodies, kept):
    data, names, _ = archive_of(bodies)
    out, again = io.BytesIO(), io.BytesIO()
    copy, write = TarWriter(out, hashlib.sha256()), TarWriter(again, hashlib.sha256())
    for n, member in enumerate(members(data)):
        if n in kept:
            copy.copy(data[member.header : member.end])
    keep = [n for n in range(len(bodies)) if n in kept]
    write.add([names[n] for n in keep], [bodies[n] for n in keep])
    copy.close()
    write.close()
    assert out.getvalue() == again.getvalue()
    assert copy.position == write.position


def test_the_header_is_the_one_tarfile_writes():
    names, sizes = ["0000000001.jpg", "x" * 100], [12345, 8**11 - 1]
    made = headers(names, np.array(sizes))
    for row, name, size in zip(made, names, sizes, strict=True):
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o644, 0
        assert row.tobytes() == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 1), ("x", 8**11), ("x", -1)])
def test_what_does_not_fit_is_refused(name, size):
    with pytest.raises(ValueError, match="does not fit"):
        headers(["good", name], np.array([0, size]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d[:1024], "no end"),
        (lambda d: d[:1000], "ends inside member '0000000000.bin'"),
        (lambda d: b"x" * 512 + d, "no member header at byte 0"),
        (lambda d: bytes([d[0] ^ 1]) + d[1:], "damaged member header at byte 0"),
    ],
)
def test_what_is_no_archive_is_said(damage, message):
    data, _, _ = archive_of([b"a" * 500, b"b"])
    with pytest.raises(ValueError, match=message):
        list(members(damage(data)))

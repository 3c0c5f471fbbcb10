"""Lists are read whole, whatever they are compressed with, and each problem is one sentence."""

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.schemas.common import packed_lists
from openwit.schemas.common.decompress import MAGIC_BYTES
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.packed_lists import read_list

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("name", PACKERS)
@given(data=st.binary(max_size=300), more=st.integers(1, 9))
def test_packed_is_what_is_plain_and_every_cut_is_said(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes, more: int
) -> None:
    path = tmp_path_factory.mktemp("l") / "list.txt"
    packed = PACKERS[name](data)
    path.write_bytes(packed)
    assert read_list(path, "it") == data
    path.write_bytes(packed[: max(MAGIC_BYTES, len(packed) - more)])
    with pytest.raises(DataError, match=f"^it cannot be read: .*{name}") as refused:
        read_list(path, "it")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_lists, "MOST_BYTES", 3 << 20)
    (tmp_path / "l").write_bytes(PACKERS[name](b"\n" * (8 << 20)))
    with pytest.raises(DataError, match="it unpacks to more than 3 MiB: that is no list"):
        read_list(tmp_path / "l", "it")


@pytest.mark.parametrize("data", [b"", b"a", b"BZhang\n", b"BZh9 is a name\n", b"\x1f", b"plain.gz\n"])
def test_plain_bytes_stay(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "l.gz").write_bytes(data)
    assert read_list(tmp_path / "l.gz", "it") == data


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("l.zip", b"PK\x03\x04", "it is packed in a way that is not read here: use gzip, bzip2, xz or Zstandard"),
        ("l.txt", b"\x04\x22\x4d\x18", "is packed in a way"),
        ("l.txt.br", b"abc", "is packed in a way"),
    ],
)
def test_other_compressions_are_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_list(tmp_path / name, "it")


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (("gone", "does not exist"), ("", "is a folder"), ("pipe", "is a named pipe")):
        with pytest.raises(DataError, match=f"^it {message}"):
            read_list(tmp_path / path, "it")


def test_a_packed_pipe_of_the_shell() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, gzip.compress(b"b.org\n"))
        os.close(writing)
        assert read_list(Path(f"/dev/fd/{reading}"), "it", once=True) == b"b.org\n"
    finally:
        os.close(reading)

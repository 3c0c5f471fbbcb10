import bz2
import gzip
import io
import lzma
import random
from pathlib import Path

import pyarrow as pa
import pytest

from openwit.schemas.common.decompress import MAGIC_BYTES, Plain, compression_of, plain_chunks

BODY = random.Random(0).randbytes(300_000) + b"\0" * 900_000


PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


def unpacked(packed: bytes) -> tuple[bytes, list[str]]:
    notes: list[str] = []
    compression = compression_of(packed[:MAGIC_BYTES])
    assert compression is not None
    chunks = plain_chunks(io.BytesIO(packed), compression, lambda reason, _: notes.append(reason))
    return b"".join(chunks), notes


@pytest.mark.parametrize("name", PACKERS)
def test_whole_joined_padded_and_cut(name: str) -> None:
    packed = PACKERS[name](BODY)
    assert compression_of(packed[:MAGIC_BYTES]) == name
    assert unpacked(packed) == (BODY, [])
    assert unpacked(packed + PACKERS[name](b"more")) == (BODY + b"more", [])
    assert unpacked(packed + b"\0" * 512) == (BODY, [])
    cut, notes = unpacked(packed[: len(packed) // 2])
    assert BODY.startswith(cut)
    assert notes == ["damaged tar"]
    assert name == "bzip2" or len(cut) > 100_000
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    assert unpacked(bytes(damaged))[1] == ["damaged tar"]


def test_zstandard(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    with pa.CompressedOutputStream(str(path), "zstd") as out:
        out.write(BODY)
    assert unpacked(path.read_bytes()) == (BODY, [])
    cut, notes = unpacked(path.read_bytes()[:-50_000])
    assert BODY.startswith(cut)
    assert notes in (["damaged tar"], [])


def test_a_plain_stream_reads_what_is_asked() -> None:
    stream = Plain(iter([b"abc", b"", b"defg"]))
    assert [stream.read(2), stream.read(2), stream.read(), stream.read(1)] == [b"ab", b"c", b"defg", b""]

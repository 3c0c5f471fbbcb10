import gzip
import random
from pathlib import Path

import pytest

from openwit.schemas.common.errors import OpenWITError
from openwit.training.data.unpack import unpack_tars

BODY = random.Random(0).randbytes(300_000) + b"\0" * 900_000


def test_copies_are_made_once_and_within_the_limit(tmp_path: Path) -> None:
    packed = tmp_path / "a.tar"  # told by the first bytes, not by the name
    packed.write_bytes(gzip.compress(BODY)[:-9])
    plain = tmp_path / "b.tar"
    plain.write_bytes(b"")
    notes: list[str] = []
    said: list[str] = []

    def unpack(limit: int) -> list[Path]:
        return unpack_tars(
            [packed, plain],
            tmp_path / "cache",
            max_bytes=limit,
            note=lambda reason, _: notes.append(reason),
            report=said.append,
        )

    with pytest.raises(OpenWITError, match=r"a\.tar unpacks to more than data\.cache_bytes leaves"):
        unpack(1000)
    first = unpack(10_000_000)
    assert first[0].read_bytes() == BODY[: first[0].stat().st_size]
    assert first[1] == plain
    before = first[0].stat().st_mtime_ns
    assert unpack(10_000_000) == first
    assert first[0].stat().st_mtime_ns == before
    assert notes == ["damaged tar"] * 2
    assert "1 of 2 tars are compressed (gzip)" in said[0]
    assert [path.suffix for path in (tmp_path / "cache").iterdir() if path.name[0] != "."].count(".tar") == 1

import hashlib

import pytest

from openwit.schemas.common.atomic import atomic_path, atomic_write, remove_partials, sha256_of


def test_whole_or_absent(tmp_path):
    target = tmp_path / "deep" / "file"
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    atomic_write(target, "grüße")
    assert target.read_bytes() == "grüße".encode()
    assert sha256_of(target) == hashlib.sha256("grüße".encode()).hexdigest()


def test_an_old_file_survives_a_failed_write(tmp_path):
    target = tmp_path / "file"
    atomic_write(target, b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        raise RuntimeError
    assert target.read_bytes() == b"old"


def test_leftovers_of_a_kill_are_removed(tmp_path):
    (tmp_path / ".partial-1-x").write_text("half")
    (tmp_path / "x").write_text("whole")
    remove_partials(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]

"""Paths of files in stores: what local paths do, over fsspec."""

import pickle
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.schemas.common.atomic import atomic_path, atomic_write, sha256_of, size_and_sha256
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.storage import as_path
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.reading import copy_file, local_file, open_ranges, read_ranges, remove_tree
from openwit.schemas.common.storage.store_path import StorePath, is_store


@pytest.fixture
def store():
    yield as_path("memory://bucket/birds")
    fsspec.filesystem("memory").rm("/", recursive=True)


@pytest.fixture(params=["local", "store"])
def folder(request, tmp_path):
    if request.param == "local":
        yield tmp_path / "work"
        return
    yield request.getfixturevalue("store")


@given(st.lists(st.from_regex(r"[a-z0-9._-]{1,8}", fullmatch=True).filter(lambda s: set(s) != {"."}), min_size=1))
def test_the_parts_of_a_url_are_those_of_a_path(parts):
    url = "s3://" + "/".join(parts)
    path, same = as_path(url), Path("/".join(parts))
    assert str(path) == url
    assert as_path(str(path)) == path == pickle.loads(pickle.dumps(path))
    assert isinstance(path / "x", StorePath)
    assert (path.name, path.suffix, path.stem) == (same.name, same.suffix, same.stem)
    assert str(path / "a" / "b.txt") == f"{url}/a/b.txt"
    assert (path / "a" / "b.txt").relative_to(path).as_posix() == "a/b.txt"
    assert str((path / "a").with_name("c")) == f"{url}/c"
    assert str(path / "a" / ".." / "c") == f"{url}/c"
    assert str((path / "a" / "b").parent.parent) == url


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("s3://user:secret@bucket/x", "s3://… holds a user name or password"),
        ("s3://", "is no folder of a store"),
        ("s3://bucket/x?versionId=1", "is no folder of a store"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(location, message):
    with pytest.raises(RecipeError, match=message) as refused:
        as_path(location)
    assert "secret" not in str(refused.value)


def test_paths_and_file_urls_are_local():
    for location in ("out/x", Path("out/x")):
        assert as_path(location) == Path("out/x")
        assert not is_store(as_path(location))
    assert as_path("file:///tmp/x") == Path("/tmp/x")
    assert not isinstance(as_path("file:///tmp/x"), StorePath)


def test_files_are_written_read_listed_and_deleted_as_local_ones(folder):
    assert not folder.exists()
    assert not folder.is_dir()
    atomic_write(folder / "a" / "one.txt", "first")
    with atomic_path(folder / "a" / "two.bin") as path:
        path.write_bytes(b"\0" * 10)
    assert folder.exists()
    assert folder.is_dir()
    assert not folder.is_file()
    one = folder / "a" / "one.txt"
    assert (one.exists(), one.is_file(), one.is_dir()) == (True, True, False)
    assert one.read_text() == "first"
    assert one.read_bytes() == b"first"
    assert one.open().read() == one.open("rb").read().decode() == "first"
    assert one.stat().st_size == 5
    assert one.stat().st_mtime_ns > 1_600_000_000_000_000_000
    assert sorted(path.name for path in folder.iterdir()) == ["a"]
    assert sorted(path.name for path in (folder / "a").glob("*.txt")) == ["one.txt"]
    assert sorted(path.name for path in (folder / "a").glob("[!.]*")) == ["one.txt", "two.bin"]
    assert list((folder / "none").glob("*")) == []
    assert {path.name for path in folder.rglob("*.txt")} == {"one.txt"}
    for missing in (folder / "a" / "gone", folder / "gone" / "too"):
        assert not missing.exists()
        for act in (missing.read_bytes, missing.stat, missing.unlink):
            with pytest.raises(FileNotFoundError):
                act()
        missing.unlink(missing_ok=True)
    one.unlink()
    assert not one.exists()
    remove_tree(folder)
    remove_tree(folder)
    assert not folder.exists()


def test_a_file_that_is_not_finished_is_not_there(folder):
    atomic_write(folder / "x", "old")
    with pytest.raises(RuntimeError), atomic_path(folder / "x") as path:
        path.write_text("new")
        raise RuntimeError
    assert (folder / "x").read_text() == "old"
    assert [path.name for path in folder.iterdir()] == ["x"]


def test_libraries_get_local_files_and_ranges(folder, tmp_path):
    atomic_write(folder / "x", "0123456789")
    assert size_and_sha256(folder / "x") == (10, sha256_of(folder / "x"))
    with local_file(folder / "x") as path:
        assert not is_store(path)
        assert path.read_text() == "0123456789"
    with open_ranges(folder / "x") as source:
        assert (source.read_bytes() if isinstance(source, Path) else source.read()) == b"0123456789"
    assert read_ranges(folder / "x", [2, 0], [3, 1]) == [b"234", b"0"]
    copy_file(folder / "x", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "0123456789"


def test_a_copy_is_used_again_until_the_file_changes(folder):
    atomic_write(folder / "x", "first")
    assert cached(folder / "x") == cached(folder / "x")
    assert cached(folder / "x").read_text() == "first"
    atomic_write(folder / "x", "other")
    assert cached(folder / "x").read_text() == "other"


def test_old_copies_are_deleted(store, monkeypatch):
    from openwit.schemas.common.storage import cache

    monkeypatch.setattr(cache, "_MOST_BYTES", 100)
    monkeypatch.setattr(cache, "_FEWEST_FILES", 2)
    copies = []
    for n in range(6):
        atomic_write(store / str(n), "x" * 60)
        copies.append(cached(store / str(n)))
    assert [copy.exists() for copy in copies] == [False] * 4 + [True] * 2


def test_a_file_is_created_once(store):
    assert (store / "x").create(b"one")
    assert not (store / "x").create(b"two")
    assert (store / "x").read_bytes() == b"one"


def test_files_of_a_store_are_not_opened_for_writing(store):
    with pytest.raises(ValueError, match="written whole, by atomic_path"):
        (store / "x").open("w")

"""Blobs through files: what is read of a key is what was written for it, from few files, opened one at a time."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.execution import exchange
from openwit.pipeline.execution.exchange import MAX_GROUPS, BlobFile, BlobReader, BlobWriter, grouped
from openwit.schemas.common.storage import as_path, pieces
from openwit.schemas.common.storage.object_store import ObjectStore

STREAMS = ("a", "b", "ordered late")
BLOBS = st.lists(st.tuples(st.sampled_from(STREAMS), st.integers(0, 5), st.binary(max_size=9)), max_size=30)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(BLOBS, max_size=4),
    st.booleans(),
    st.sampled_from([1, 20, 1 << 20]),
    st.sampled_from([0, 4, 1 << 18]),
    st.sampled_from([None, 0, 1 << 20]),
)
def test_a_key_gets_what_was_written_for_it(tmp_path_factory, groups, spilled, read_bytes, kept, kept_of_store):
    folder = tmp_path_factory.mktemp("exchange")
    if kept_of_store is not None:
        folder = as_path(f"memory://{folder}")
    expected = defaultdict(list)
    files = []
    with pytest.MonkeyPatch.context() as patch:
        if spilled:
            patch.setattr(exchange, "_BUFFERED_BYTES", 10)
        for number, blobs in enumerate(groups):
            with BlobWriter(folder / str(number), STREAMS) as writer:
                for stream, key, blob in blobs:
                    writer.add(stream, key, blob)
                    expected[stream, key].append(blob)
            written = writer.written()
            assert bool(written.path) == bool(blobs)
            assert {name: written.keys.get(name, np.zeros(0)).tolist() for name in STREAMS} == {
                name: sorted({key for stream, key, _ in blobs if stream == name}) for name in STREAMS
            }
            files.append(BlobFile(written.path, written.size, STREAMS))
        patch.setattr(exchange, "_READ_BYTES", read_bytes)
        patch.setattr(exchange, "_KEPT_ENTRIES", kept)
        patch.setattr(pieces, "KEPT_BYTES", kept_of_store or 0)
        reader = BlobReader(files)
        for keys in (range(6), range(2, 4), [3], []):
            seen = []
            for key, found in reader.read(("ordered late", "a"), list(keys)):
                seen.append(key)
                assert list(found) == ["ordered late", "a"]
                for stream in found:
                    assert sorted(found[stream]) == sorted(expected[stream, key])
            assert seen == list(keys)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), BlobWriter(tmp_path / "x", STREAMS) as writer:
        writer.add("a", 1, b"blob")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), BlobWriter(tmp_path / "x", STREAMS) as writer:
        writer.add("undeclared", 1, b"blob")


@given(st.integers(0, 100_000))
def test_groups_hold_each_item_once_and_are_few(items: int) -> None:
    groups = grouped(items)
    assert [index for group in groups for index in group] == list(range(items))
    assert len(groups) <= MAX_GROUPS
    assert all(len(group) > 0 for group in groups)


@pytest.mark.parametrize("files", [8, 16, 32])
@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_requests_to_a_store_grow_with_the_groups_of_keys_only(tmp_path, monkeypatch, files, kept):
    folder = as_path(f"memory://{tmp_path}")
    written = []
    for number in range(files):
        with BlobWriter(folder / str(number), STREAMS) as writer:
            for key in range(40):
                writer.add("a", key, b"%d of %d" % (key, number))
        written.append(BlobFile(writer.written().path, writer.written().size, STREAMS))
    monkeypatch.setattr(pieces, "KEPT_BYTES", kept)
    calls = []
    real = ObjectStore._call
    monkeypatch.setattr(ObjectStore, "_call", lambda self, *about: calls.append(about) or real(self, *about))
    reader = BlobReader(written)
    for first in range(0, 40, 4):
        assert len(list(reader.read(("a",), range(first, first + 4)))) == 4
    # All files once; or their ends, their directories, and the pieces of each of ten groups.
    assert len(calls) == (1 if kept else 12)

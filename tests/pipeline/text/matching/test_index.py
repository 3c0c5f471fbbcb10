import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from openwit.pipeline.text.matching import index as match_index
from openwit.pipeline.text.matching.matcher import Matcher

QUERIES = ["dog", "hot dog", "dog", "caf\u00e9", "a word of more than sixteen letters: incomprehensibilities"]
TEXT = "HOT DOG caf\u00e9 - a word of more than sixteen letters, incomprehensibilities"


@pytest.fixture
def builds(monkeypatch):
    """Counts how often a list is built."""
    counted = []
    build = match_index.build_index
    monkeypatch.setattr(
        "openwit.pipeline.text.matching.matcher.build_index", lambda *given: counted.append(1) or build(*given)
    )
    return counted


def test_what_was_saved_is_read_and_finds_the_same(tmp_path, builds):
    path = tmp_path / "list.index"
    Matcher(QUERIES).save(path)
    assert len(builds) == 1
    read = Matcher.load(path, QUERIES)
    assert len(builds) == 1
    assert read.match_text(TEXT) == Matcher(QUERIES).match_text(TEXT) == [0, 1, 2, 3, 4]
    assert not any(array.flags.writeable for array in read._index.tables)
    assert os.listdir(tmp_path) == ["list.index"]


def test_equal_lists_have_equal_files_however_they_lie_in_memory(tmp_path, builds):
    path = tmp_path / "list.index"
    Matcher.load(path, QUERIES)
    for queries in (pa.array(QUERIES), pa.array(["x", *QUERIES])[1:], pa.chunked_array([QUERIES[:2], QUERIES[2:]])):
        Matcher.load(path, queries)
    assert len(builds) == 1


def test_another_list_mode_or_order_is_built_anew(tmp_path, builds):
    path = tmp_path / "list.index"
    Matcher.load(path, QUERIES)
    assert Matcher.load(path, ["dog"]).match_text(TEXT) == [0]
    assert Matcher.load(path, ["do", "g"]).match_text("dog do") == [0]
    assert Matcher.load(path, ["g", "do"]).match_text("dog do") == [1]
    assert Matcher.load(path, ["g", "do"], "metaclip").match_text("DO") == []
    assert len(builds) == 5


def test_another_version_is_built_anew(tmp_path, builds, monkeypatch):
    path = tmp_path / "list.index"
    Matcher.load(path, QUERIES)
    monkeypatch.setattr(match_index, "_VERSION", match_index._VERSION + 1)
    Matcher.load(path, QUERIES)
    assert len(builds) == 2


def test_every_broken_file_is_built_anew_and_replaced(tmp_path, builds):
    path = tmp_path / "list.index"
    Matcher(QUERIES).save(path)
    whole = path.read_bytes()
    chance = np.random.default_rng(3)
    broken = [b"", b"x", b"PK" + whole[2:], whole[:-1], whole[: len(whole) // 2], whole[:16], whole + b"\0"]
    broken += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in chance.integers(0, len(whole), 40)]
    broken += [
        whole[:8] + b"\xff" * 8 + whole[16:],
        whole.replace(b'"<u8"', b'"<O8"'),
        whole.replace(b'"<u8"', b'"zzz"'),
    ]
    builds.clear()
    for number, data in enumerate(broken, 1):
        path.write_bytes(data)
        assert Matcher.load(path, QUERIES).match_text(TEXT) == [0, 1, 2, 3, 4]
        # A bit of the padding in the first line may change nothing.
        if len(builds) < number:
            assert data[:16] == whole[:16]
            builds.append(1)
        else:
            assert path.read_bytes() == whole


def test_a_folder_in_its_place_is_an_error_of_the_system(tmp_path):
    (tmp_path / "list.index").mkdir()
    with pytest.raises(OSError, match="list.index"):
        Matcher.load(tmp_path / "list.index", QUERIES)


def test_another_process_reads_it(tmp_path):
    path = tmp_path / "list.index"
    Matcher.load(path, QUERIES)
    code = (
        "import sys; from pathlib import Path; from openwit.pipeline.text.matching import matcher as match; "
        "match.build_index = None; print(match.Matcher.load(Path(sys.argv[1]), sys.argv[2:]).match_text('hot dog'))"
    )
    done = subprocess.run([sys.executable, "-c", code, path, *QUERIES], capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 1, 2]\n"


def test_a_saved_index_is_opened_without_its_queries(tmp_path, builds):
    path = tmp_path / "list.index"
    assert Matcher.open(path) is None
    Matcher(QUERIES).save(path)
    builds.clear()
    opened = Matcher.open(path)
    assert opened is not None
    assert opened.match_text(TEXT) == [0, 1, 2, 3, 4]
    assert not any(array.flags.writeable for array in opened._index.tables)
    assert not any(array.flags.owndata for array in opened._index.tables)
    assert Matcher.open(path, "metaclip") is None
    path.write_bytes(path.read_bytes()[:-1])
    assert Matcher.open(path) is None
    assert builds == []

"""Every file that `wit` is given is refused before it is opened if it is a named pipe: opening one may never end."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openwit.pipeline.cli.dataset import load_list
from openwit.pipeline.dataset.removal_list import load_removal_list
from openwit.pipeline.dataset.store import LocalFolder, load_manifest
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.decontamination.files import OTHER_FILE, list_pieces, read_piece
from openwit.pipeline.download.blocklist import load_blocklist
from openwit.pipeline.readers.inputs import expand_inputs
from openwit.pipeline.recipe import load_recipe
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.fetch.stage import blocklist_identity
from openwit.pipeline.stages.queries.sources import read_query_table, read_wordnet
from openwit.pipeline.text.filters.adult_words import read_word_list
from openwit.schemas.common.errors import DataError
from openwit.schemas.manifest import DatasetManifest


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("x.csv", lambda path: expand_inputs([str(path)], "candidates.inputs")),
        ("x.paths.gz", lambda path: expand_inputs([str(path)], "candidates.inputs")),
        ("x.warc", lambda path: expand_inputs([f"{path.parent}/*.warc"], "candidates.inputs")),
        ("x.tar", lambda path: list_pieces([str(path)])),
        ("x.parquet", lambda path: list_pieces([f"{path.parent}/*.parquet"])),
        ("x.yaml", load_recipe),
        ("x.txt", load_blocklist),
        ("x.txt", lambda path: blocklist_identity(FetchSettings(blocklist=str(path)))),
        ("x.txt", load_removal_list),
        ("x.txt", load_list),
        ("x.txt", read_query_table),
        ("x.parquet", read_query_table),
        ("x.csv", read_query_table),
        ("index.noun", lambda path: read_wordnet(path.parent)),
        ("x.txt", read_word_list),
    ],
)
def test_a_named_pipe_is_refused(tmp_path: Path, name: str, read: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}.* is a named pipe, not a file: write what it gives to a file"):
        read(tmp_path / name)


def test_pipes_in_folders_are_other_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.csv", "b.tar", "c.parquet"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "d.csv").write_text("url,text\n")
    assert expand_inputs([str(tmp_path)], "k", wanted=lambda name: name.endswith(".csv")) == [f"{tmp_path}/d.csv"]
    assert "k: 3 of other kinds" in caplog.text
    counted: list[str] = []
    pieces = list_pieces([str(tmp_path)])
    assert [piece.kind for piece in pieces] == ["files"]
    assert list(read_piece(pieces[0], lambda reason, _, __: counted.append(reason))) == []
    assert counted == [OTHER_FILE] * 4


@pytest.mark.parametrize(
    "read", [DatasetManifest.load, lambda folder: load_manifest(LocalFolder(folder)), verify_dataset]
)
def test_a_pipe_for_a_manifest_is_refused(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(DataError, match=r"manifest\.json is a named pipe"):
        read(tmp_path)


def test_a_pipe_for_a_file_of_a_dataset_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    store = LocalFolder(tmp_path)
    for read in (store.read, lambda name: store.ranges(name, [0], [1]), lambda name: store.local(name).__enter__()):
        with pytest.raises(DataError, match="x is a named pipe"):
            read("x")


def test_a_pipe_in_a_path_list_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.warc")
    (tmp_path / "warc.paths.gz").write_bytes(gzip.compress(f"{tmp_path}/a.warc\n".encode()))
    with pytest.raises(DataError, match="a.warc, of path list .*, is a named pipe"):
        expand_inputs([str(tmp_path / "warc.paths.gz")], "k")

"""A path that exists is itself before it is a pattern; named pipes, sockets and devices are refused unopened."""

import os
import socket
from pathlib import Path

import pytest

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import matching_paths, refuse_special, special_kind
from openwit.schemas.common.settings import read_yaml
from openwit.schemas.common.text_files import read_text


def test_what_exists_is_itself_and_the_rest_are_patterns(tmp_path: Path) -> None:
    for name in ("a[12].csv", "a1.csv", "a2.csv"):
        (tmp_path / name).touch()
    assert matching_paths(f"{tmp_path}/a[12].csv", "k") == [f"{tmp_path}/a[12].csv"]
    (tmp_path / "a[12].csv").unlink()
    assert matching_paths(f"{tmp_path}/a[12].csv", "k") == [f"{tmp_path}/a1.csv", f"{tmp_path}/a2.csv"]
    assert matching_paths(f"{tmp_path}/gone", "k") == matching_paths(f"{tmp_path}/gone*", "k") == []
    assert matching_paths(str(tmp_path), "k") == [str(tmp_path)]


def test_special_files_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "file").touch()
    found = [special_kind(name) for name in ("pipe", "link", "socket", "/dev/zero", "file", ".", "gone", os.devnull)]
    assert found == ["a named pipe", "a named pipe", "a socket", "a device", None, None, None, None]
    for pattern in ("pipe", "pi*"):
        with pytest.raises(DataError, match=r"^k: pipe is a named pipe, not a file: write"):
            matching_paths(pattern, "k")


def test_a_pipe_of_the_shell_is_taken_where_it_is_read_once() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"a: 1\n")
        os.close(writing)
        with pytest.raises(DataError, match="is a named pipe"):
            refuse_special(f"/dev/fd/{reading}", "it")
        assert read_yaml(Path(f"/dev/fd/{reading}")) == {"a": 1}
    finally:
        os.close(reading)


def test_settings_and_texts_are_doors(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for read in (read_yaml, read_text):
        with pytest.raises(DataError, match="pipe is a named pipe"):
            read(pipe)

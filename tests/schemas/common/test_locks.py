import errno
import os
import sys
from pathlib import Path

import pytest

from openwit.schemas.common.errors import OpenWITError, StorageError
from openwit.schemas.common.locks import hold_lock, lock_file


def test_a_lock_is_held_until_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with path.open("w") as first, path.open("w") as second:
        assert lock_file(first, wait=True)
        assert not lock_file(second, wait=False)
        first.close()
        assert lock_file(second, wait=False)


def test_there_is_no_lock_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / ".lock").open("w") as file:
        monkeypatch.setattr(sys, "platform", "win32")
        with pytest.raises(OpenWITError, match="WSL 2"):
            lock_file(file, wait=False)


def test_a_held_lock_is_one_sentence(tmp_path):
    path = tmp_path / "deep" / "lock"
    with hold_lock(path, "busy"), pytest.raises(StorageError, match="^busy$"), hold_lock(path, "busy"):
        pass
    with hold_lock(path, "busy"):
        pass


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("there", [True, False])
def test_where_nothing_can_be_written_what_is_finished_can_be_read(tmp_path, monkeypatch, number, there):
    path = tmp_path / "lock"
    if there:
        path.touch()
    opened = Path.open

    def refuse(self, mode="r", *arguments, **keywords):
        if "r" not in mode:
            raise OSError(number, os.strerror(number), str(self))
        return opened(self, mode, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", refuse)
    with hold_lock(path, "busy"):
        if there:
            with pytest.raises(StorageError, match="busy"), hold_lock(path, "busy"):
                pass


def test_a_lock_below_a_file_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"), hold_lock(tmp_path / "file" / "lock", "busy"):
        pass

import sys
from pathlib import Path

import pytest

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.locks import lock_file


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

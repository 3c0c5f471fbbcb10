"""Faults of disks, as the system reports them: at the n-th atomic write, or at every write below a folder."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from openwit.schemas.common import atomic

FAULTS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
)

_READ_ONLY: list[str] = []
_CHANGES = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"})


class FailingWrites:
    """Lets the n-th atomic write of what follows fail; `failed` is the path of it, None if there was none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.number = errno.ENOSPC
        self.failed: Path | None = None
        self._replace = os.replace
        monkeypatch.setattr(atomic.os, "fsync", self._sync)
        monkeypatch.setattr(atomic.os, "replace", self._rename)

    def at(self, n: int, number: int) -> None:
        """Fail at the n-th write from now, from 1; 0 for none."""
        self.left, self.number, self.failed = n, number, None

    def _sync(self, descriptor: int) -> None:
        self.left -= 1
        if self.left == 0 and self.number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            self.failed = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            raise OSError(self.number, os.strerror(self.number))

    def _rename(self, source: Any, target: Any) -> None:
        if self.left == 0 and self.failed is None and self.number:
            self.failed = Path(target)
            raise OSError(self.number, os.strerror(self.number), str(source))
        self._replace(source, target)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Refuse everything that Python would write below a folder, as a disk does that is mounted read-only."""
    if not _HOOKED:
        sys.addaudithook(_refuse)  # cannot be removed: it does nothing outside the block
        _HOOKED.append(True)
    _READ_ONLY.append(str(folder))
    try:
        yield
    finally:
        _READ_ONLY.pop()


_HOOKED: list[bool] = []


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _READ_ONLY or (event != "open" and event not in _CHANGES):
        return
    paths = [argument for argument in arguments if isinstance(argument, str | os.PathLike)]
    if event == "open":
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if not isinstance(arguments[2], int) or not arguments[2] & writes:
            return
        paths = paths[:1]
    for path in paths:
        if str(path).startswith(_READ_ONLY[-1]):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

"""Read byte ranges of a file, local or in a store; blocks of a store are fetched again after transient failures.

A lost connection must not look like the end or the damage of a file: it raises NetworkError, never OSError.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import fsspec

from openwit.schemas.common.errors import DataError, NetworkError, RecipeError, one_line
from openwit.schemas.common.storage.remote import is_remote, local_copy, with_retries

_BLOCK_BYTES = 4 << 20
_PROBE_BYTES = 16


class RangeFile(io.RawIOBase):
    """A seekable file in a store, read block by block up to `end`; `tell` and `seek` count from the file's start."""

    def __init__(self, name: str, *, end: int | None = None, block_bytes: int | None = None) -> None:
        """Look up the file.

        Raises:
            DataError, NetworkError, RecipeError: it does not exist, cannot be reached, or needs a package.
        """
        super().__init__()
        self._name = name
        self._block_bytes = _BLOCK_BYTES if block_bytes is None else block_bytes
        self._filesystem: Any
        self._filesystem, self._path = _found(name)
        size = remote_size(name)
        if size is None:
            raise NetworkError(f"{name} cannot be read in parts: its server does not tell its size")
        self._end = size if end is None else min(end, size)
        self._at = 0
        self._start = 0
        self._block = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in the file."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the block at the position."""
        if self._at >= self._end:
            return 0
        if not self._start <= self._at < self._start + len(self._block):
            self._start, self._block = self._at, self._fetch(self._at, min(self._at + self._block_bytes, self._end))
        found = self._block[self._at - self._start :][: len(buffer)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _fetch(self, start: int, end: int) -> bytes:
        def get() -> bytes:
            found: bytes = self._filesystem.cat_file(self._path, start=start, end=end)
            if len(found) != end - start:
                raise OSError(f"{len(found)} bytes came instead of {end - start}")
            return found

        try:
            return with_retries(get, where=self._name)
        except Exception as error:  # every filesystem raises its own errors
            raise NetworkError(f"{self._name} cannot be fetched: {one_line(error)}") from error


def remote_size(name: str) -> int | None:
    """Return the size of a file in a store; None if its server does not tell it.

    Raises:
        DataError, NetworkError, RecipeError: it does not exist, cannot be reached, or needs a package.
    """
    filesystem, path = _found(name)
    try:
        info = with_retries(lambda: filesystem.info(path), where=name)
    except FileNotFoundError:
        raise DataError(f"{name} does not exist") from None
    except Exception as error:  # every filesystem raises its own errors
        raise NetworkError(f"{name} cannot be looked up: {one_line(error)}") from error
    size = info.get("size")
    return None if size is None else int(size)


def gives_ranges(name: str, size: int) -> bool:
    """Return whether a part of a file can be had from its store: some web servers send whole files only."""
    if not name.startswith(("http://", "https://")) or size < _PROBE_BYTES:
        return True
    filesystem, path = _found(name)

    def probe() -> int:
        with filesystem.open(path, "rb", size=size, block_size=_PROBE_BYTES, cache_type="none") as file:
            file.seek(size - _PROBE_BYTES)
            return len(file.read(_PROBE_BYTES))

    try:
        return with_retries(probe, where=name) == _PROBE_BYTES
    except ValueError:  # fsspec's word for a server that ignores the range
        return False
    except Exception as error:  # every filesystem raises its own errors
        raise NetworkError(f"{name} cannot be fetched: {one_line(error)}") from error


@contextlib.contextmanager
def path_or_ranges(name: str) -> Iterator[str | BinaryIO]:
    """Yield where a file is read of which a part is wanted: its path, or an open file that fetches what is read.

    A remote file of which ranges cannot be had is copied first.

    Raises:
        DataError, NetworkError, RecipeError, StorageError: as `remote.local_copy`.
    """
    if not is_remote(name):
        yield name
    elif divisible_size(name) is not None:
        with open_ranges(name) as file:
            yield file
    else:
        with local_copy(name) as path:
            yield path


def divisible_size(name: str) -> int | None:
    """Return the size of a remote file of which parts can be had; None if they cannot."""
    size = remote_size(name)
    return size if size is not None and gives_ranges(name, size) else None


def open_ranges(name: str, *, start: int = 0, end: int | None = None, block_bytes: int | None = None) -> BinaryIO:
    """Open a file at byte `start`; it ends at byte `end`, and positions count from the file's start.

    Args:
        name: a path or URL.
        start, end: bytes.
        block_bytes: fetched at a time from a store; None for 4 MiB.

    Raises:
        DataError, NetworkError, RecipeError: it cannot be opened.
    """
    if is_remote(name):
        file: Any = io.BufferedReader(RangeFile(name, end=end, block_bytes=block_bytes), 1 << 16)
    else:
        file = _opened(name) if end is None else io.BufferedReader(_Limited(_opened(name), end), 1 << 20)
    file.seek(start)
    return file  # type: ignore[no-any-return]


def _opened(name: str) -> Any:
    try:
        return open(name, "rb")
    except FileNotFoundError:
        raise DataError(f"{name} does not exist") from None
    except OSError as error:
        raise DataError(f"{name} cannot be opened: {one_line(error)}") from error


class _Limited(io.RawIOBase):
    """A file that ends early."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        super().__init__()
        self._file = file
        self._end = end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(max(0, min(len(buffer), self._end - self._file.tell())))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _found(name: str) -> tuple[Any, str]:
    try:
        filesystem, path = fsspec.url_to_fs(name)
    except ImportError as error:
        raise RecipeError(f"{name} needs a package that is not installed: {error}") from error
    except ValueError as error:
        raise NetworkError(f"{name} cannot be opened: {one_line(error)}") from error
    return filesystem, path

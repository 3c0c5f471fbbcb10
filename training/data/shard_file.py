"""Read parts of tars without Python's global lock, through few open files, and tell the kernel what comes next.

A page of a memory-mapped file that is not in memory is read by the instruction that touches it, with the lock held:
one cold page stops all threads. `pread` waits without it.
"""

import os
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from openwit.schemas.common.errors import DataError, SchemaError
from openwit.schemas.tables.samples import SHARD_INDEX

_OPEN_FILES = 256


class ShardFile:
    """An open file; closed with its last reference."""

    def __init__(self, path: str | Path) -> None:
        self.fd = -1
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return os.fstat(self.fd).st_size

    def close(self) -> None:
        """Close the file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class LocalTar:
    """A tar of the local disk, opened when it is read; of many tars only some are open at a time."""

    def __init__(self, path: Path) -> None:
        state = path.stat()
        self._path = str(path)
        self._state = (state.st_ino, state.st_size, state.st_mtime_ns)

    def file(self) -> ShardFile:
        """Return the open file.

        Raises:
            DataError: it is gone, or another one than it was.
        """
        return _opened(self._path, self._state)


@lru_cache(maxsize=_OPEN_FILES)
def _opened(path: str, state: tuple[int, int, int]) -> ShardFile:
    try:
        file = ShardFile(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    now = os.fstat(file.fd)
    if (now.st_ino, now.st_size, now.st_mtime_ns) != state:
        raise DataError(f"{path} was changed while it was in use: start again")
    return file


def read_index(path: Path) -> pa.Table:
    """Return the index of a shard, mapped.

    Raises:
        FileNotFoundError: there is none.
        SchemaError: it is not an index.
    """
    return _index(pa.memory_map(str(path)), str(path))


def index_of(data: bytes, where: str) -> pa.Table:
    """Return the index of a shard from the bytes of its file; `where` is the file, for the message."""
    return _index(pa.BufferReader(data), where)


def _index(source: pa.NativeFile, where: str) -> pa.Table:
    try:
        with pa.ipc.open_file(source) as reader:
            return SHARD_INDEX.conform(reader.read_all(), where)
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise SchemaError(f"{where} is not a readable Arrow file ({error}): run `wit verify`") from error

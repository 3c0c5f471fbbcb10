"""Lock files; a lock ends with the process that holds it, however that ends.

In an object store a lock is a lease that its holder renews (`openwit.schemas.common.storage.leases`).
"""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from openwit.schemas.common.errors import StorageError
from openwit.schemas.common.parts import refuse_unsupported_system
from openwit.schemas.common.storage.leases import Hold, hold_lease
from openwit.schemas.common.storage.store_path import StorePath, is_store
from openwit.schemas.common.storage_faults import is_disk_full, storage_faults

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def lock_file(file: IO[Any], *, wait: bool) -> bool:
    """Lock an open file for this process only.

    Args:
        file: the open file; the lock is released when it is closed.
        wait: wait until no other process holds the lock.

    Returns:
        True if the lock is held; always True with `wait`.

    Raises:
        UnsupportedSystemError: this system has no such locks (Windows).
    """
    refuse_unsupported_system()
    import fcntl  # not on Windows

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


_log = logging.getLogger(__name__)


@contextmanager
def hold_lock(path: Path, busy: str) -> Iterator[Hold]:
    """Hold a lock file while the block runs, which can check that it is still held.

    Where nothing can be written, on a read-only or full disk, an existing file is locked as it is; without one there
    is nothing to protect, and the block runs without a lock: what is finished can be read, and work that would write
    ends with its own error.

    Args:
        path: of the lock file, which is empty and stays.
        busy: the sentence for a lock that another process holds.

    Raises:
        StorageError: another process holds it, or the file cannot be made.
    """
    if is_store(path):
        assert isinstance(path, StorePath)
        with hold_lease(path, busy) as held:
            yield held
        return
    with storage_faults(path.parent):
        file = _open(path)
    if file is None:
        yield Hold()
        return
    with file:
        try:
            locked = lock_file(file, wait=False)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _log.warning("%s: its file system has no locks: make sure that no other command uses it", path.parent)
            locked = True
        if not locked:
            raise StorageError(busy)
        yield Hold()


def _open(path: Path) -> IO[Any] | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab", buffering=0)
    except OSError as error:
        if error.errno not in _READ_ONLY and not is_disk_full(error):
            raise
    try:
        return path.open("rb", buffering=0)
    except OSError:
        return None

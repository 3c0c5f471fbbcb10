"""Lock files; a lock ends with the process that holds it, however that ends."""

from typing import IO, Any

from openwit.schemas.common.parts import refuse_unsupported_system


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

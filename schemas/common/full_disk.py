"""Recognise a full disk and report it as a StorageError."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openwit.schemas.common.errors import StorageError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means a full disk, an exhausted quota or a file-size limit.

    Libraries and process boundaries keep only the text of an error, so the text is searched where there is no errno.
    """
    if getattr(error, "errno", None) in _FULL:
        return True
    text = str(error).lower()
    return any(f"[errno {number}]" in text for number in _FULL) or "no space left on device" in text


def disk_full_error(folder: Path) -> StorageError:
    """Return the error to raise when writing to `folder` fails for lack of space."""
    return StorageError(f"no space is left on the disk of {folder}: free some and run the same command")


@contextmanager
def disk_full_as_user_error(folder: Path) -> Iterator[None]:
    """Turn the errors of a full disk, an exhausted quota and a file-size limit into a StorageError.

    Args:
        folder: what the block writes to, for the message.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise disk_full_error(folder) from error

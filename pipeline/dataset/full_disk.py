"""A disk without room is the user's to mend: it is said in a sentence, and the same command goes on afterwards."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openwit.schemas.common.errors import OpenWITError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def room_said(folder: Path) -> Iterator[None]:
    """Turns the errors of a full disk, a used-up quota and a file-size limit into a OpenWITError.

    Args:
        folder: what was written to, for the message.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM and not any(f"[errno {number}]" in str(error) for number in _NO_ROOM):
            raise
        raise OpenWITError(f"no space is left on the disk of {folder}: free some and run the same command") from error

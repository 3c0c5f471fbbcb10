"""Recognise what disks and file systems refuse, and report it as a StorageError of one sentence."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openwit.schemas.common.errors import OpenWITError, StorageError, one_line

_FULL = {
    errno.ENOSPC: "",
    errno.EDQUOT: " (the quota is used up)",
    errno.EFBIG: " (a file reached the limit on its size, ulimit -f)",
}
_REMEDIES = {
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "give yourself the right to it, or choose another",
    errno.EPERM: "give yourself the right to it, or choose another",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOTDIR: "a part of the path is a file, choose another",
    errno.EISDIR: "a file is wanted here, give its path",
    errno.EEXIST: "move it away or choose another path",
    errno.EIO: "check the disk, then run the same command",
    errno.EMFILE: "raise the limit on open files, ulimit -n",
    errno.ENFILE: "close other programs, the system has no more open files",
    errno.ELOOP: "its links lead in a circle",
    errno.ESTALE: "the network file system lost it, run the same command",
    errno.ENOLCK: "its file system has no locks, choose a folder on another",
}
_NUMBER = re.compile(r"\[errno (\d+)\]|\(os error (\d+)\)|\bcode: (\d+), kind:", re.IGNORECASE)
_LOCAL_FILE = re.compile(r"local file '([^']+)'")
# numpy's message when a disk is full; it has no number.
_SHORT_WRITE = re.compile(r"\b\d+ requested and \d+ written\b")
_LONGEST_PATH = 200


def fault_number(error: BaseException) -> int | None:
    """Return the system's number of an error, None if it is of another kind.

    Libraries and process boundaries keep only the text of an error, so the text is searched where there is no number.
    """
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return number
    text = str(error)
    found = _NUMBER.search(text)
    if found is not None:
        return int(next(filter(None, found.groups())))
    if "no space left on device" in text.lower() or _SHORT_WRITE.search(text):
        return errno.ENOSPC
    return None


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means a full disk, an exhausted quota or a file-size limit."""
    return fault_number(error) in _FULL


def storage_error(error: BaseException, where: Path | None = None) -> StorageError | None:
    """Return the StorageError for a fault of a disk or file system; None for another kind of error.

    Args:
        error: what was raised, possibly by a library that kept only the text.
        where: what was written to, for errors that name no path.
    """
    number = fault_number(error)
    if number in _FULL:
        return StorageError(
            f"no space is left on the disk of {shown(_path_of(error) if where is None else where)}"
            f"{_FULL[number]}: free some and run the same command"
        )
    if number in _REMEDIES:
        path = _path_of(error) or where
        return StorageError(f"{shown(path)}: {os.strerror(number)}; {_REMEDIES[number]}")
    return None


@contextmanager
def storage_faults(where: Path | None = None, *, only_os_errors: bool = False) -> Iterator[None]:
    """Turn faults of a disk or file system into a StorageError; other errors pass.

    Args:
        where: what the block writes to, for errors that name no path.
        only_os_errors: turn every OSError, known as such a fault or not, and no other error: for the tasks of an
            engine, which keeps no more than the text of what they raise.
    """
    try:
        yield
    except OpenWITError:
        raise
    except Exception as error:
        found = storage_error(error, where)
        if only_os_errors:
            found = (found or StorageError(sentence_of(error))) if isinstance(error, OSError) else None
        if found is None:
            raise
        raise found from error


def sentence_of(error: OSError) -> str:
    """Return an error of the system in one line, with its path if it names one."""
    found = storage_error(error)
    if found is not None:
        return str(found)
    path = _path_of(error)
    reason = error.strerror or one_line(error)
    return reason if path is None or path in reason else f"{shown(path)}: {reason}"


def shown(path: Path | str | None) -> str:
    """Return a path or URL for a message; of a very long one the beginning."""
    text = "a file" if path is None else str(path)
    return text if len(text) <= _LONGEST_PATH else f"{text[:_LONGEST_PATH]}…"


def _path_of(error: BaseException) -> str | None:
    name = getattr(error, "filename", None)
    if isinstance(name, str | bytes | os.PathLike):
        return str(name) if isinstance(name, Path) else os.fsdecode(name)
    found = _LOCAL_FILE.search(str(error))
    return None if found is None else found[1]

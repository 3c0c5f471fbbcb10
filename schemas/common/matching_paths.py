"""Find the files that a user names: a path that exists is itself before it is a pattern; special files are refused.

Opening a named pipe waits for a writer, perhaps for ever, and a second reading of one finds nothing. So whatever is
neither a file nor a folder is refused before it is opened.
"""

import glob
import os
import stat

from openwit.schemas.common.errors import DataError

_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# What a shell gives for `<(command)` and a pipe into the command: their writer is there already.
_OF_SHELL = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")


def shown_name(name: str) -> str:
    r"""Return a file's name as text: a byte that is not UTF-8 is written as `\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def matching_paths(pattern: str, key: str) -> list[str]:
    """Return the path itself if it exists, whatever characters it has; else what matches it as a pattern, sorted.

    Args:
        pattern: a path or a glob with `*`, `?`, `[` and `**`.
        key: the setting that names it, for the message.

    Raises:
        DataError: one of them is a named pipe, a socket or a device.
    """
    if os.path.exists(pattern):
        found = [pattern]
    else:
        found = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []
    for path in found:
        refuse_special(path, f"{key}: {path}")
    return found


def special_kind(path: str | os.PathLike[str]) -> str | None:
    """Return what a path is, in words, if it is neither a file nor a folder; None for those and for nothing."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None  # opening it says why
    if os.path.realpath(path) == os.devnull:
        return None  # an empty file
    return _SPECIAL.get(stat.S_IFMT(found.st_mode))


def refuse_special(path: str | os.PathLike[str], shown: str, *, once: bool = False) -> None:
    """Refuse a named pipe, a socket or a device before it is opened.

    Args:
        path: a file that the user named.
        shown: the file in the message, perhaps with the setting that names it.
        once: whether it is read in one go by one process, so that a pipe of the shell (`<(command)`, `/dev/stdin`)
            can be taken.

    Raises:
        DataError: it is one.
    """
    if once and os.fspath(path).startswith(_OF_SHELL):
        return
    if (kind := special_kind(path)) is not None:
        raise DataError(f"{shown} is {kind}, not a file: write what it gives to a file, and name that")

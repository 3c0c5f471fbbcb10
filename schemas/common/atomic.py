"""Write files that are whole or absent: under a temporary name beside the target, renamed when complete."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY_PREFIX = ".partial-"


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to `target` if the block ends without an error.

    The data is flushed to disk before the rename, so that a power cut cannot leave half a file under the final name.
    On an error the temporary file is removed and `target` is untouched; an error of the system names `target`.
    """
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(target)
        raise
    finally:
        with suppress(OSError):  # what went wrong is said already
            temporary.unlink(missing_ok=True)


def atomic_write(target: Path, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `target`, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_partials(folder: Path) -> None:
    """Remove temporary files of killed processes from `folder` (not from its subfolders)."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)

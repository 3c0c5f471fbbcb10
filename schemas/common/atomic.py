"""Write files that are whole or absent: under a temporary name beside the target, renamed when complete.

A file of an object store is written to a temporary folder of this machine, and sent when it is complete.
"""

import hashlib
import os
import tempfile
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from openwit.schemas.common.storage.reading import local_file, send_file, store_facts
from openwit.schemas.common.storage.store_path import is_store

TEMPORARY_PREFIX = ".partial-"


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to `target` if the block ends without an error.

    The data is flushed to disk before the rename, so that a power cut cannot leave half a file under the final name.
    On an error the temporary file is removed and `target` is untouched; an error of the system names `target`.
    """
    if is_store(target):
        with tempfile.TemporaryDirectory(prefix="openwit-") as folder:
            local = Path(folder) / target.name
            yield local
            size, sha256 = local.stat().st_size, sha256_of(local)
            note_version(target, size, sha256, send_file(local, target).version)
        return
    # Unique on every machine: process numbers are equal in containers.
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-{target.name}")
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
    if is_store(target):
        forget_version(target)
        target.write_bytes(data.encode() if isinstance(data, str) else data)
        return
    with atomic_path(target) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file, read in chunks."""
    with local_file(path) as local, local.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_known: OrderedDict[str, tuple[int, str, str]] = OrderedDict()
_FILES_KNOWN = 4096


def note_version(path: Path, size: int, sha256: str, version: str) -> None:
    """Keep what is known of a file of a store, which this process sent or compared."""
    _known[str(path)] = size, sha256, version
    while len(_known) > _FILES_KNOWN:
        _known.popitem(last=False)


def forget_version(path: Path) -> None:
    """Forget what is known of a file of a store: it is written in another way."""
    _known.pop(str(path), None)


def version_of(path: Path) -> str:
    """Return the version of a file of a store: the one that this process sent or compared, else that of now; or ""."""
    known = _known.get(str(path))
    if known is not None:
        return known[2]
    facts = store_facts(path)
    return "" if facts is None else facts.version


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Return the size in bytes and the hex sha256 of a file; one that this process sent is not read again."""
    known = _known.get(str(path)) if is_store(path) else None
    return (path.stat().st_size, sha256_of(path)) if known is None else known[:2]


def remove_partials(folder: Path) -> None:
    """Remove temporary files of killed processes from `folder` (not from its subfolders)."""
    if is_store(folder):
        return
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)

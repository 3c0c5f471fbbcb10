"""Move files between stores and this machine, for libraries that read and write local files."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from openwit.schemas.common.storage.object_store import Facts, ObjectStore
from openwit.schemas.common.storage.store_path import is_store


@contextlib.contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """Yield a local path with the content of a file: its own, or that of a copy that is deleted when the block ends.

    Raises:
        FileNotFoundError: it does not exist, in a store; a local path is not looked at.
        OpenWITError: the store cannot be read, or the disk is full.
    """
    if not is_store(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="openwit-") as folder:
        copy = Path(folder) / path.name
        store, name = _place(path)
        store.download(name, copy)
        yield copy


@contextlib.contextmanager
def open_ranges(path: Path) -> Iterator[Any]:
    """Yield what Arrow reads a file from: its local path, or a file object that fetches the ranges that are read.

    Raises:
        DataError: it does not exist, in a store.
        OpenWITError: the store cannot be read.
    """
    if not is_store(path):
        yield path
        return
    store, name = _place(path)
    with store.open(name) as file:
        yield file


def read_ranges(path: Path, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
    """Return some byte ranges of a file; nothing else of it is read."""
    if is_store(path):
        store, name = _place(path)
        return store.ranges(name, starts, sizes)
    with path.open("rb") as file:
        found = []
        for start, size in zip(starts, sizes, strict=True):
            file.seek(start)
            found.append(file.read(size))
        return found


def copy_file(source: Path, target: Path) -> None:
    """Copy the content of a file, from a store or a local folder, to a local file."""
    with local_file(source) as local:
        shutil.copyfile(local, target)


def send_file(source: Path, target: Path) -> Facts:
    """Send a local file to a store, where it appears when it is whole; return what the store states of it.

    Raises:
        OpenWITError: it could not be written.
    """
    store, name = _place(target)
    return store.upload(source, name)


def store_facts(path: Path) -> Facts | None:
    """Return size and version of a file in a store, or None if it does not exist."""
    store, name = _place(path)
    return store.facts(name)


def move_file(source: Path, target: Path) -> None:
    """Move a file within the folders of this machine, or within a store; what was at the target is replaced."""
    if not is_store(source):
        os.replace(source, target)
        return
    with local_file(source) as local:
        send_file(local, target)
    source.unlink(missing_ok=True)


def temporary_file(target: Path) -> BinaryIO:
    """Open a file without a name, which ends with this process: on the disk of a target that is on this machine."""
    if is_store(target):
        return cast(BinaryIO, tempfile.TemporaryFile())
    target.parent.mkdir(parents=True, exist_ok=True)
    return cast(BinaryIO, tempfile.TemporaryFile(dir=target.parent))


def remove_tree(folder: Path) -> None:
    """Delete a folder with everything below it; nothing happens if there is none, or where it cannot be deleted."""
    if not is_store(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    ObjectStore(str(folder)).delete_all()


def _place(path: Path) -> tuple[ObjectStore, str]:
    head, _, name = str(path).rpartition("/")
    return ObjectStore(head), name

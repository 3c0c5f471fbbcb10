"""Read and write the files of a dataset in a local folder or an object store.

Files are named relative to the dataset, with slashes. A local folder is read in place, by mmap where its readers do
so. From a remote dataset, tables are read by ranges, and archives are downloaded as a whole, one at a time.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.storage.object_store import ObjectStore
from openwit.schemas.common.storage.remote import is_remote
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest


class DatasetStore(Protocol):
    """Read and write datasets. Errors of the store are OpenWITErrors that name the file."""

    def __str__(self) -> str: ...

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every file, by name, in order of name."""

    def odd(self) -> dict[str, str]:
        """Return what is no plain file or folder: `link` or `other`, by name."""

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, or None if it does not exist."""

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises:
            FileNotFoundError: it does not exist.
        """

    def open(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """Open a file for Arrow's readers: yields its path, or a file object that reads ranges."""

    def ranges(self, name: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Return some byte ranges of a file; nothing else of it is read."""

    def local(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """Yield the path of a file: its own, or that of a copy that is deleted when the block ends."""

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, whole or not at all."""

    def move_in(self, path: Path, name: str) -> None:
        """Move a local file into the dataset, whole or not at all; the local file no longer exists afterwards."""

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""


class LocalFolder:
    """A dataset in a local folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def sizes(self) -> dict[str, int]:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in sorted(files)}

    def odd(self) -> dict[str, str]:
        found = {}
        for root, folders, files in os.walk(self.folder):
            for path in (Path(root, name) for name in [*folders, *files]):
                if path.is_symlink():
                    found[path.relative_to(self.folder).as_posix()] = "link"
                elif not path.is_dir() and not path.is_file():
                    found[path.relative_to(self.folder).as_posix()] = "other"
        return dict(sorted(found.items()))

    def size(self, name: str) -> int | None:
        try:
            return (self.folder / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str) -> bytes:
        return self._file(name).read_bytes()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Any]:
        yield str(self._file(name))

    def ranges(self, name: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        with self._file(name).open("rb") as file:
            return [_span(file, start, size) for start, size in zip(starts, sizes, strict=True)]

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        yield self._file(name)

    def write(self, name: str, data: bytes) -> None:
        atomic_write(self.folder / name, data)

    def move_in(self, path: Path, name: str) -> None:
        target = self.folder / name
        if path != target:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)

    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        """Return the path of a file; a named pipe, which would be waited for, is refused."""
        path = self.folder / name
        refuse_special(path, str(path))
        return path


class RemoteFolder:
    """A dataset behind a URL that fsspec knows. Holds only the URL, so that it can be pickled for workers."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") if not url.endswith("://") else url
        self._store = ObjectStore(self.url)

    def __str__(self) -> str:
        return self.url

    def sizes(self) -> dict[str, int]:
        return self._store.sizes()

    def odd(self) -> dict[str, str]:
        return self._store.odd()

    def size(self, name: str) -> int | None:
        return self._store.size(name)

    def read(self, name: str) -> bytes:
        return self._store.read(name)

    def open(self, name: str) -> contextlib.AbstractContextManager[Any]:
        return self._store.open(name)

    def ranges(self, name: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        return self._store.ranges(name, starts, sizes)

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="openwit-") as folder:
            path = Path(folder) / Path(name).name
            self._store.download(name, path)
            yield path

    def write(self, name: str, data: bytes) -> None:
        self._store.write(name, data)

    def move_in(self, path: Path, name: str) -> None:
        self._store.upload(path, name)
        path.unlink()

    def delete(self, name: str) -> None:
        self._store.delete(name)


def _span(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def by_folder(sizes: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return the files of a dataset with their sizes, by folder and by their names in it."""
    found: dict[str, dict[str, int]] = {}
    for name, size in sizes.items():
        folder, _, last = name.rpartition("/")
        found.setdefault(folder, {})[last] = size
    return found


def move_in(store: DatasetStore, path: Path, name: str) -> None:
    """Move a local file, or a folder of files, into a dataset."""
    if not path.is_dir():
        store.move_in(path, name)
        return
    for file in sorted(path.iterdir()):
        store.move_in(file, f"{name}/{file.name}")


def open_store(where: str | Path) -> LocalFolder | RemoteFolder:
    """Return the store for a URL (`s3://bucket/ds`, `gs://…`, `file://…`) or a path."""
    # Path() turns `s3://b` into `s3:/b`: a URL must be passed as a string.
    return RemoteFolder(str(where)) if is_remote(str(where)) else LocalFolder(Path(where))


def load_manifest(store: DatasetStore) -> DatasetManifest:
    """Read the manifest of a dataset.

    Raises:
        DataError: it does not exist, or is not a manifest of this version.
    """
    if isinstance(store, LocalFolder):
        return DatasetManifest.load(store.folder)
    try:
        text = store.read(MANIFEST_NAME)
    except FileNotFoundError:
        raise DataError(f"{store} is not a dataset: {MANIFEST_NAME} is missing") from None
    return DatasetManifest.parse(text, f"{store}/{MANIFEST_NAME}")


def save_manifest(store: DatasetStore, manifest: DatasetManifest) -> None:
    """Write `manifest.json`, whole or not at all."""
    store.write(MANIFEST_NAME, manifest.to_json().encode())

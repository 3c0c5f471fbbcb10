"""Where a dataset lies: a local folder, or a URL of an object store. Files are named relative to it, with slashes.

A local folder is read in place, by mmap where its readers do so. Of a remote one, tables are read by ranges, and an
archive is brought here whole, one at a time.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from openwit.pipeline.common.remote import is_remote
from openwit.pipeline.dataset.object_store import ObjectStore
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest


class DatasetStore(Protocol):
    """What datasets are read from and written to. Errors of the store are UserErrors that name the file."""

    def __str__(self) -> str: ...

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, by name, in order of name."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""

    def read(self, name: str) -> bytes:
        """A small file.

        Raises:
            FileNotFoundError: there is none.
        """

    def open(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """A file as Arrow's readers take it: its path, or a file object that reads ranges."""

    def ranges(self, name: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Some spans of a file; nothing else of it is read."""

    def local(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """The path of a file: its own, or that of a copy that goes when the block ends."""

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file, whole or not at all."""

    def move_in(self, path: Path, name: str) -> None:
        """Makes a local file a file of the dataset, whole or not at all; the local one is gone afterwards."""

    def delete(self, name: str) -> None:
        """Removes a file, if it is there."""


class LocalFolder:
    """A dataset in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def sizes(self) -> dict[str, int]:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in sorted(files)}

    def size(self, name: str) -> int | None:
        try:
            return (self.folder / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Any]:
        yield str(self.folder / name)

    def ranges(self, name: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        with (self.folder / name).open("rb") as file:
            return [_span(file, start, size) for start, size in zip(starts, sizes, strict=True)]

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        yield self.folder / name

    def write(self, name: str, data: bytes) -> None:
        atomic_write(self.folder / name, data)

    def move_in(self, path: Path, name: str) -> None:
        target = self.folder / name
        if path != target:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)

    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)


class RemoteFolder:
    """A dataset behind a URL that fsspec knows. Holds the URL only, so that it travels to the workers."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") if not url.endswith("://") else url
        self._store = ObjectStore(self.url)

    def __str__(self) -> str:
        return self.url

    def sizes(self) -> dict[str, int]:
        return self._store.sizes()

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


def open_store(where: str | Path) -> LocalFolder | RemoteFolder:
    """The place a user named: a URL (`s3://bucket/ds`, `gs://…`, `file://…`), or a path."""
    # Path() has made `s3://b` of a URL to `s3:/b`: so a URL must come as it was typed.
    return RemoteFolder(str(where)) if is_remote(str(where)) else LocalFolder(Path(where))


def load_manifest(store: DatasetStore) -> DatasetManifest:
    """The manifest of a dataset.

    Raises:
        OpenWITError: there is none, or it is not a manifest of this version.
    """
    if isinstance(store, LocalFolder):
        return DatasetManifest.load(store.folder)
    try:
        text = store.read(MANIFEST_NAME)
    except FileNotFoundError:
        raise OpenWITError(
            f"{store} is not a dataset: {MANIFEST_NAME} is missing (build it with `wit build`)"
        ) from None
    return DatasetManifest.parse(text, f"{store}/{MANIFEST_NAME}")


def save_manifest(store: DatasetStore, manifest: DatasetManifest) -> None:
    """Writes `manifest.json`, whole or not at all."""
    store.write(MANIFEST_NAME, manifest.to_json().encode())

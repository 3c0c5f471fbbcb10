"""Name files in object stores by paths: `as_path("s3://bucket/work") / "stages"` works as a local path does.

A `StorePath` has the methods of `pathlib.Path` that the builder uses, over fsspec: s3://, gs://, memory:// (within one
process) and whatever else fsspec knows. Listing and sizes ask the store each time. Files are written by
`openwit.schemas.common.atomic`, whole or not at all; a library that opens files itself is given `local_file` or
`open_ranges` of `openwit.schemas.common.storage.reading`.
"""

import fnmatch
import io
import os
import posixpath
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PosixPath
from typing import Any

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.storage.object_store import ObjectStore
from openwit.schemas.common.storage.remote import is_remote

# A path that is given in parts loses one of the slashes.
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):/(?!/)")
_FILE_MODE, _FOLDER_MODE = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


def as_path(location: str | os.PathLike[str]) -> Path:
    """Return the path of a folder or file, by its path or its URL.

    Raises:
        RecipeError: the URL names no store, holds credentials, or has a query.
    """
    if isinstance(location, Path):
        return location
    text = os.fspath(location)
    if not is_remote(text):
        return Path(text)
    scheme, _, rest = text.partition("://")
    if scheme.lower() == "file":
        return Path(rest if rest.startswith("/") else f"/{rest}")
    if "@" in rest.partition("/")[0]:
        raise RecipeError(
            f"{scheme}://… holds a user name or password, which would be written to manifests: give credentials by "
            "the environment or the configuration of the store's own tools"
        )
    if "?" in rest or "#" in rest or not rest.strip("/"):
        raise RecipeError(f"{text} is no folder of a store: give {scheme}://BUCKET/FOLDER")
    return StorePath(f"{scheme.lower()}:/{rest.strip('/')}")


def is_store(path: os.PathLike[str]) -> bool:
    """Return whether a path lies in an object store, not in a folder of this machine."""
    return isinstance(path, StorePath) and path.is_absolute()


class StorePath(PosixPath):
    """A path in an object store; `as_path` makes them. Its text is the URL.

    Methods raise FileNotFoundError where those of local paths do, and an OpenWITError if the store cannot be reached.
    """

    def __str__(self) -> str:
        text = super().__str__()
        scheme = _SCHEME.match(text)
        if scheme is None:
            return text
        place = text[scheme.end() :]
        if ".." in self.parts:
            place = posixpath.normpath(f"/{place}").strip("/")
        return f"{scheme.group(1)}://{place}"

    def __fspath__(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __reduce__(self) -> Any:
        return StorePath, (super().__str__(),)

    def as_posix(self) -> str:
        return str(self)

    def is_absolute(self) -> bool:
        return _SCHEME.match(super().__str__()) is not None

    def absolute(self) -> "StorePath":
        return self

    def resolve(self, strict: bool = False) -> "StorePath":  # noqa: ARG002
        return self

    def expanduser(self) -> "StorePath":
        return self

    def _store(self) -> tuple[ObjectStore, str]:
        """Return the store of the parent folder, and the name in it."""
        head, _, name = str(self).rpartition("/")
        return ObjectStore(head), name

    def _is_bucket(self) -> bool:
        return str(self).partition("://")[2].count("/") == 0

    def exists(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002
        return self.is_file() or self.is_dir()

    def is_file(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002
        if self._is_bucket():
            return False
        store, name = self._store()
        return store.size(name) is not None

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002
        return ObjectStore(str(self)).is_folder()

    def is_symlink(self) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:  # noqa: ARG002
        """Return size and time of change of a file, or the mode of a folder.

        Raises:
            FileNotFoundError: there is neither.
        """
        store, name = self._store()
        facts = None if self._is_bucket() else store.facts(name)
        if facts is not None:
            fields = (_FILE_MODE, 0, 0, 1, 0, 0, facts.size, 0, facts.modified, 0)
            return os.stat_result(fields, {"st_mtime_ns": int(facts.modified * 1_000_000_000)})
        if self.is_dir():
            return os.stat_result((_FOLDER_MODE, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        raise FileNotFoundError(2, "No such file", str(self))

    def lstat(self) -> os.stat_result:
        return self.stat()

    def read_bytes(self) -> bytes:
        store, name = self._store()
        return store.read(name)

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:  # noqa: ARG002
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: Any) -> int:
        store, name = self._store()
        content = bytes(data)
        store.write(name, content)
        return len(content)

    def write_text(
        self,
        data: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,  # noqa: ARG002
    ) -> int:
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))

    def create(self, data: bytes) -> bool:
        """Write a small file unless there is one of the name, in one step of the store.

        Returns:
            Whether it was written.

        Raises:
            StorageError: the store has no such step.
        """
        store, name = self._store()
        return store.create(name, data)

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,  # noqa: ARG002
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """Open a file for reading; the ranges that are read are fetched, a megabyte or more at a time.

        Raises:
            FileNotFoundError: it does not exist.
            ValueError: it would be written: see `atomic_path`.
        """
        if set(mode) - set("rbt"):
            raise ValueError(f"mode {mode!r} of {self}: files of a store are written whole, by atomic_path")
        store, name = self._store()
        file = store.opened(name)
        return file if "b" in mode else io.TextIOWrapper(file, encoding or "utf-8", errors, newline)

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(2, "No such file", str(self))
        store, name = self._store()
        store.delete(name)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: a folder is there with its first file."""

    def rmdir(self) -> None:
        """Do nothing: a folder is gone with its last file."""

    def iterdir(self) -> Iterator["StorePath"]:  # type: ignore[override]
        for name in ObjectStore(str(self)).names():
            yield self / name

    def glob(self, pattern: str) -> Iterator["StorePath"]:  # type: ignore[override]
        """Yield the files and folders of this folder whose name matches a pattern without `/`, in order of name."""
        if "/" in pattern or "**" in pattern:
            raise NotImplementedError(f"pattern {pattern!r} below {self}")
        for name in ObjectStore(str(self)).names():
            if fnmatch.fnmatchcase(name, pattern):
                yield self / name

    def rglob(self, pattern: str) -> Iterator["StorePath"]:  # type: ignore[override]
        """Yield the files anywhere below this folder whose name matches a pattern, in order of name."""
        for name in ObjectStore(str(self)).sizes():
            if fnmatch.fnmatchcase(name.rpartition("/")[2], pattern):
                yield self / name

"""Read and write files behind a URL with fsspec: with retries, a check after each upload, and errors in a sentence."""

import base64
import contextlib
import datetime
import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from openwit.schemas.common.errors import DataError, NetworkError, OpenWITError, RecipeError, StorageError, one_line
from openwit.schemas.common.storage.remote import lacks_credentials, with_retries
from openwit.schemas.common.storage_faults import is_disk_full

# Object stores have keys only. Creating a folder there would create a bucket.
_WITHOUT_FOLDERS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "r2"})
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}

# Bytes read ahead of a requested range; the default of some stores is 50 MB.
_BLOCK = 1 << 20

T = TypeVar("T")


class Facts(NamedTuple):
    """What a store states of a file.

    Attributes:
        size: in bytes.
        modified: time of change in seconds since 1970, 0 if it states none.
        version: changes with the content: the checksum or generation, or else the time.
    """

    size: int
    modified: float
    version: str


class ObjectStore:
    """The files below a URL. Errors are OpenWITErrors of one sentence, apart from the FileNotFoundError of `read`.

    Args:
        url: without a trailing slash.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._scheme = url.partition("://")[0]

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every file below the URL, by name relative to it, in order of name."""

        def find() -> dict[str, int]:
            filesystem, root = self._filesystem()
            filesystem.invalidate_cache()
            found = filesystem.find(root, detail=True)
            base = root.rstrip("/") + "/"
            files = {name: info for name, info in found.items() if info["type"] == "file"}
            return {name.removeprefix(base): int(files[name]["size"]) for name in sorted(files)}

        try:
            return self._call("listed", "", find)
        except FileNotFoundError:
            return {}

    def odd(self) -> dict[str, str]:
        """Return what is no plain object: `link` or `other`, by name; only file systems have any."""

        def find() -> dict[str, str]:
            filesystem, root = self._filesystem()
            base = root.rstrip("/") + "/"
            entries = filesystem.find(root, detail=True, withdirs=True)
            kinds = {name: "link" if info.get("islink") else str(info["type"]) for name, info in entries.items()}
            return {
                name.removeprefix(base): "link" if kinds[name] == "link" else "other"
                for name in sorted(kinds)
                if kinds[name] not in ("file", "directory")
            }

        try:
            return self._call("listed", "", find)
        except FileNotFoundError:
            return {}

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, or None if it does not exist."""
        facts = self.facts(name)
        return None if facts is None else facts.size

    def facts(self, name: str) -> Facts | None:
        """Return size and time of change of a file, or None if it does not exist."""
        try:
            info = self._call("inspected", name, lambda: self._info(name))
        except FileNotFoundError:
            return None
        if info["type"] != "file":
            return None
        return _facts(info)

    def names(self) -> list[str]:
        """Return the names of the files and folders directly below the URL, sorted; none if there is nothing."""

        def ls() -> list[str]:
            filesystem, root = self._filesystem()
            filesystem.invalidate_cache()
            found = filesystem.ls(root, detail=False)
            names = {str(path).rstrip("/").removeprefix(root).strip("/") for path in found}
            return sorted(name for name in names if name and "/" not in name)

        try:
            return self._call("listed", "", ls)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def is_folder(self) -> bool:
        """Return whether there is a file below the URL, or a folder that a file system made."""

        def look() -> bool:
            filesystem, root = self._filesystem()
            filesystem.invalidate_cache()
            return bool(filesystem.isdir(root))

        return self._call("inspected", "", look)

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file unless it exists, by one conditional request; return whether it was written.

        Raises:
            StorageError: the store, or the library for it, has no such request.
        """

        def pipe() -> bool:
            filesystem, root = self._filesystem()
            if "mode" not in inspect.signature(getattr(filesystem, "_pipe_file", filesystem.pipe_file)).parameters:
                raise StorageError(f"{self.url}: its library cannot create a file only where there is none")
            try:
                filesystem.pipe_file(self._prepared(filesystem, f"{root}/{name}"), data, mode="create")
            except FileExistsError:
                # A request whose answer was lost is repeated: then the file is there, and ours.
                return self.read(name) == data
            return True

        return self._call("written", name, pipe)

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: it does not exist.
        """

        def cat() -> bytes:
            filesystem, root = self._filesystem()
            data: bytes = filesystem.cat_file(f"{root}/{name}")
            return data

        return self._call("read", name, cat)

    def opened(self, name: str) -> Any:
        """Return a file object that reads ranges on demand.

        Raises:
            FileNotFoundError: it does not exist.
        """

        def start() -> Any:
            filesystem, root = self._filesystem()
            filesystem.invalidate_cache()
            file = filesystem.open(f"{root}/{name}", "rb", block_size=_BLOCK)
            cache = getattr(file, "cache", None)
            if cache is not None and hasattr(cache, "fetcher"):
                cache.fetcher = self._tried_again(name, cache.fetcher)
            return file

        return self._call("read", name, start)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """Yield a file object that reads ranges on demand."""
        try:
            file = self.opened(name)
        except FileNotFoundError:
            raise self._missing(name) from None
        with file:
            yield file

    def pieces(self, places: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return byte ranges of some files, fetched at the same time where the library can: (name, start, size)."""

        def cat() -> list[bytes]:
            filesystem, root = self._filesystem()
            paths = [f"{root}/{name}" for name, _, _ in places]
            starts = [start for _, start, _ in places]
            # The default puts an error in the place of the bytes.
            ends = [start + size for _, start, size in places]
            found: list[bytes] = filesystem.cat_ranges(paths, starts, ends, on_error="raise")
            return found

        name = places[0][0] if places else ""
        try:
            return self._call("read", name, cat)
        except FileNotFoundError:
            raise self._missing(name) from None

    def ranges(self, name: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Return some byte ranges of a file."""
        return self.pieces([(name, start, size) for start, size in zip(starts, sizes, strict=True)])

    def download(self, name: str, target: Path) -> None:
        """Download a file and check its size."""

        def get() -> None:
            filesystem, root = self._filesystem()
            filesystem.get_file(f"{root}/{name}", str(target))
            expected = self._info(name)["size"]
            if target.stat().st_size != expected:
                raise OSError(f"{target.stat().st_size:,} of {expected:,} bytes arrived")

        try:
            self._call("downloaded", name, get)
        except FileNotFoundError:
            raise self._missing(name) from None

    def upload(self, source: Path, name: str) -> Facts:
        """Upload a file, check that it arrived, and return what the store states of it."""

        def put() -> Facts:
            filesystem, root = self._filesystem()
            target = self._prepared(filesystem, f"{root}/{name}")
            filesystem.put_file(str(source), target)
            return _facts(self._check(source, name))

        return self._write("written", name, put)

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""

        def pipe() -> None:
            filesystem, root = self._filesystem()
            filesystem.pipe_file(self._prepared(filesystem, f"{root}/{name}"), data)

        self._write("written", name, pipe)

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""

        def remove() -> None:
            filesystem, root = self._filesystem()
            with contextlib.suppress(FileNotFoundError):
                filesystem.rm_file(f"{root}/{name}")

        self._write("removed", name, remove)

    def delete_all(self) -> None:
        """Delete everything below the URL."""

        def remove() -> None:
            filesystem, root = self._filesystem()
            filesystem.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                filesystem.rm(root, recursive=True)

        self._write("removed", "", remove)

    def _filesystem(self) -> tuple[Any, str]:
        import fsspec  # many programs name paths and never use a store

        filesystem, root = fsspec.url_to_fs(self.url)
        return filesystem, str(root).rstrip("/")

    def _prepared(self, filesystem: Any, target: str) -> str:
        if self._scheme not in _WITHOUT_FOLDERS:
            filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
        return target

    def _info(self, name: str) -> dict[str, Any]:
        filesystem, root = self._filesystem()
        filesystem.invalidate_cache()
        info: dict[str, Any] = filesystem.info(f"{root}/{name}")
        return info

    def _check(self, source: Path, name: str) -> dict[str, Any]:
        """Compare the size, and the MD5 if the store reports one, of the stored bytes with those sent."""
        info = self._info(name)
        size = source.stat().st_size
        if info["size"] != size:
            raise OSError(f"{info['size']:,} of {size:,} bytes arrived")
        given = _md5_of(info)
        if given is not None and given != _md5(source) and self.read(name) != source.read_bytes():
            # With server-side encryption the store's checksum is not that of the bytes: only reading them back helps.
            raise OSError("the bytes that arrived differ from those sent")
        return info

    def _tried_again(self, name: str, fetch: Callable[[int, int], T]) -> Callable[[int, int], T]:
        """Return a function that fetches a range, with retries and errors in a sentence as everywhere here."""

        def fetch_range(start: int, end: int) -> T:
            try:
                return self._call("read", name, lambda: fetch(start, end))
            except FileNotFoundError:
                raise self._missing(name) from None

        return fetch_range

    def _write(self, what: str, name: str, action: Callable[[], T]) -> T:
        try:
            return self._call(what, name, action)
        except FileNotFoundError as error:
            raise StorageError(f"{self.url} cannot be {what}: there is no such bucket ({one_line(error)})") from error

    def _call(self, what: str, name: str, action: Callable[[], T]) -> T:
        where = f"{self.url}/{name}" if name else self.url
        try:
            result: T = with_retries(action, where=where)
        except (FileNotFoundError, OpenWITError):
            raise
        except ImportError as error:
            raise RecipeError(self._missing_package(error)) from error
        except Exception as error:  # every filesystem raises its own errors
            if lacks_credentials(error):
                why = f"no valid credentials were found ({one_line(error)})"
            else:
                why = one_line(error) + ("; run it again to resume" if what == "written" else "")
            kind = StorageError if is_disk_full(error) else NetworkError
            raise kind(f"{where} cannot be {what}: {why}") from error
        return result

    def _missing_package(self, error: ImportError) -> str:
        extra = _EXTRAS.get(self._scheme)
        remedy = f"run pip install 'openwit[{extra}]'" if extra else one_line(error)
        return f"{self.url} needs a package that is not installed: {remedy}"

    def _missing(self, name: str) -> DataError:
        return DataError(f"{self.url}/{name} does not exist, but it should: verify the dataset")


def _facts(info: dict[str, Any]) -> Facts:
    times = (info.get(key) for key in ("LastModified", "mtime", "updated", "created"))
    modified = next((_timestamp(value) for value in times if value is not None), 0.0)
    version = next((str(info[key]) for key in ("ETag", "etag", "generation") if info.get(key)), str(modified))
    return Facts(int(info["size"]), modified, version)


def _md5_of(info: dict[str, Any]) -> bytes | None:
    """Return the MD5 that a store reports: GCS's md5Hash, or S3's ETag of an object uploaded in one part."""
    try:
        if "md5Hash" in info:
            return base64.b64decode(info["md5Hash"])
        return bytes.fromhex(info["ETag"].strip('"')) if len(info["ETag"].strip('"')) == 32 else None
    except (KeyError, ValueError, AttributeError):
        return None


def _md5(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()


def _timestamp(value: Any) -> float:
    """Return a store's time of change in seconds since 1970; 0 if it states none."""
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
        except ValueError:
            return 0.0
    return 0.0

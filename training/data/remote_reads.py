"""Read files below a URL, with an end to every wait: a few attempts of limited time each, then one sentence.

A store that hangs (a half-open connection, a server that stops in the middle of a body) would otherwise hold a run for
ever: the libraries' own timeouts differ, and some have none.
"""

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from openwit.schemas.common.errors import DataError, NetworkError, OpenWITError
from openwit.schemas.common.wording import counted
from openwit.schemas.manifest import FileEntry

R = TypeVar("R")

TRIES = 3
TIMEOUT_S = 60.0
_PAUSE_S = 0.1
_CHUNK = 1 << 23
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError)


def within(seconds: float, work: Callable[[], R]) -> R:
    """Return what a function returns, or raise TimeoutError if that takes too long; the call itself is left behind."""
    done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=run, daemon=True, name="remote read").start()
    try:
        found, error = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    result: R = found
    return result


class Store:
    """The files below a URL. Safe to use from several threads.

    Args:
        url: of a folder, as fsspec takes it.
        timeout: seconds that one attempt of one read may take.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        try:
            self._fs, root = within(timeout, lambda: fsspec.core.url_to_fs(self.url))
        except Exception as error:  # fsspec's backends raise their own errors
            raise NetworkError(f"{self.url} cannot be used: {type(error).__name__}: {error}") from error
        self._root = root.rstrip("/")

    def __reduce__(self) -> tuple[Any, ...]:
        return _store, (self.url, self._timeout)

    def whole(self, path: str) -> bytes:
        """Return a small file.

        Raises:
            NetworkError: it cannot be read.
        """
        found: bytes = self._tried(path, lambda: self._fs.cat_file(f"{self._root}/{path}"))
        return found

    def checked(self, file: FileEntry) -> bytes:
        """Return a file of a manifest.

        Raises:
            NetworkError: it cannot be read.
            DataError: it has not the checksum of the manifest, twice.
        """
        for _ in range(2):
            found = self.whole(file.path)
            if hashlib.sha256(found).hexdigest() == file.sha256:
                return found
        raise self._other_bytes(file)

    def ranges(self, wanted: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return parts of files, (path, start, stop) each, read at once where the store's library can.

        Raises:
            NetworkError: one cannot be read, or the server always sends whole files.
        """
        found: list[bytes] = [b""] * len(wanted)
        missing = [number for number, (_, start, stop) in enumerate(wanted) if stop > start]
        for attempt in range(TRIES):
            if not missing:
                break
            time.sleep(_PAUSE_S * (4**attempt - 1))
            missing, last = self._read_ranges(wanted, missing, found)
        if missing:
            where = f"{self.url}/{wanted[missing[0]][0]}"
            more = f", as {counted(len(missing) - 1, 'other part')}" if len(missing) > 1 else ""
            raise NetworkError(f"{where} cannot be read after {TRIES} attempts ({_about(last)}){more}")
        return found

    def _read_ranges(
        self, wanted: Sequence[tuple[str, int, int]], missing: list[int], found: list[bytes]
    ) -> tuple[list[int], BaseException | None]:
        paths = [f"{self._root}/{wanted[number][0]}" for number in missing]
        starts, stops = [wanted[number][1] for number in missing], [wanted[number][2] for number in missing]
        try:
            parts: list[Any] = within(
                self._timeout, lambda: self._fs.cat_ranges(paths, starts, stops, on_error="return")
            )
        except Exception as error:
            return missing, error
        left: list[int] = []
        last: BaseException | None = None
        for number, part, start, stop in zip(missing, parts, starts, stops, strict=True):
            if isinstance(part, _FINAL):
                raise NetworkError(f"{self.url}/{wanted[number][0]} cannot be read: {_about(part)}")
            if isinstance(part, bytes) and len(part) == stop - start:
                found[number] = part
                continue
            if isinstance(part, bytes) and len(part) > stop - start:
                raise NetworkError(f"{self.url} is served whole files only: set data.cache, and data.remote: blocks")
            left.append(number)
            last = part if isinstance(part, BaseException) else OSError(f"{len(part)} of {stop - start} bytes came")
        return left, last

    def copy(self, file: FileEntry, temporary: Path) -> None:
        """Copy a file of a manifest to a local path, in chunks that are tried again one by one.

        Raises:
            NetworkError: it cannot be read.
            DataError: it has not the checksum of the manifest, twice.
            OSError: the local file cannot be written.
        """
        for _ in range(2):
            digest = hashlib.sha256()
            with temporary.open("r+b" if temporary.exists() else "wb") as out:
                for start in range(0, file.bytes, _CHUNK):
                    chunk = self._chunk(file, start)
                    out.write(chunk)
                    digest.update(chunk)
                    if len(chunk) == file.bytes:  # the server sends whole files only
                        break
                out.truncate()
                out.flush()
                os.fsync(out.fileno())
            if digest.hexdigest() == file.sha256:
                return
        raise self._other_bytes(file)

    def _chunk(self, file: FileEntry, start: int) -> bytes:
        stop = min(file.bytes, start + _CHUNK)
        path = f"{self._root}/{file.path}"

        def read() -> bytes:
            found: bytes = self._fs.cat_file(path, start=start, end=stop)
            if len(found) not in (stop - start, file.bytes):
                raise OSError(f"{len(found)} of {stop - start} bytes came")
            return found if len(found) == stop - start or start == 0 else found[start:stop]

        return self._tried(file.path, read)

    def _tried(self, path: str, work: Callable[[], R]) -> R:
        last: BaseException | None = None
        for attempt in range(TRIES):
            time.sleep(_PAUSE_S * (4**attempt - 1))
            try:
                return within(self._timeout, work)
            except _FINAL as error:
                raise NetworkError(f"{self.url}/{path} cannot be read: {_about(error)}") from error
            except OpenWITError:
                raise
            except Exception as error:  # fsspec's backends raise their own errors
                last = error
        raise NetworkError(f"{self.url}/{path} cannot be read after {TRIES} attempts ({_about(last)})") from last

    def _other_bytes(self, file: FileEntry) -> DataError:
        return DataError(
            f"{self.url}/{file.path} does not have the checksum of its manifest: run `wit verify` on the dataset"
        )


def _store(url: str, timeout: float) -> Store:
    return Store(url, timeout=timeout)


def _about(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"

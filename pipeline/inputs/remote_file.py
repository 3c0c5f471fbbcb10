"""Describe files to fetch, and keep a record of those that were, beside them."""

import hashlib
import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from openwit.pipeline.inputs.client import Version
from openwit.schemas.common.atomic import TEMPORARY_PREFIX, atomic_write
from openwit.schemas.common.errors import DataError

RECORD = ".inputs.json"
LOCK = ".inputs.lock"


@dataclass(frozen=True)
class Checksum:
    """A published checksum.

    Attributes:
        algorithm: as hashlib calls it.
        digest: in hex.
    """

    algorithm: str
    digest: str

    def of(self, path: Path) -> str:
        """Return the checksum that a file has."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, self.algorithm).hexdigest()


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        url: where it is.
        target: where it goes.
        checksum: that was published, if any.
    """

    url: str
    target: Path
    checksum: Checksum | None = None

    @property
    def partial(self) -> Path:
        """Return where the file is until it is complete."""
        return self.target.with_name(f"{TEMPORARY_PREFIX}{self.target.name}")

    @property
    def note(self) -> Path:
        """Return where it is noted which version the partial file is of."""
        return self.target.with_name(f"{TEMPORARY_PREFIX}{self.target.name}.json")


def name_of(url: str) -> str:
    """Return the file name of a URL.

    Raises:
        DataError: it has none that can be used.
    """
    name = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    if not name or name.startswith(".") or any(ord(character) < 32 for character in name) or len(name) > 200:
        raise DataError(f"{url} ends in no name of a file")
    return name


class Record:
    """What was fetched into a folder, in a file of it: where from, its version and its size."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORD
        self._lock = threading.Lock()
        self._entries: dict[str, dict[str, Any]] = {}
        try:
            read = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return  # without it sizes are asked for again
        if isinstance(read, dict):
            self._entries = {name: entry for name, entry in read.items() if isinstance(entry, dict)}

    def size(self, name: str) -> int | None:
        """Return the bytes of a file that was fetched; None if it was not."""
        size = self._entries.get(name, {}).get("size")
        return size if isinstance(size, int) else None

    def add(self, file: RemoteFile, version: Version, size: int) -> None:
        """Record a complete file."""
        checksum = {} if file.checksum is None else asdict(file.checksum)
        entry = {"url": file.url, **asdict(version), "size": size, **checksum}
        with self._lock:
            self._entries[file.target.name] = entry
            atomic_write(self._path, json.dumps(dict(sorted(self._entries.items())), indent=1) + "\n")

"""Keep copies of a store's files on this machine for the process that reads them: the last few, deleted at its end."""

import atexit
import shutil
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

from openwit.schemas.common.storage.object_store import ObjectStore
from openwit.schemas.common.storage.store_path import is_store

_FEWEST_FILES = 16
_MOST_BYTES = 2 << 30

_Key = tuple[str, int, str]


class _Cache:
    """Copies by URL, size and version; beyond `_MOST_BYTES` those unused for longest are deleted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._copies: OrderedDict[_Key, Path] = OrderedDict()
        self._folder: Path | None = None
        self._number = 0

    def copy_of(self, path: Path) -> Path:
        head, _, name = str(path).rpartition("/")
        facts = ObjectStore(head).facts(name)
        if facts is None:
            raise FileNotFoundError(2, "No such file", str(path))
        key = (str(path), facts.size, facts.version)
        with self._lock:
            copy = self._copies.get(key)
            if copy is not None:
                self._copies.move_to_end(key)
                return copy
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="openwit-"))
                atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
            self._number += 1
            copy = self._folder / f"{self._number:06d}-{path.name}"
        ObjectStore(head).download(name, copy)
        with self._lock:
            self._copies[key] = copy
            self._shrink()
        return copy

    def _shrink(self) -> None:
        total = sum(size for _, size, _ in self._copies)
        while total > _MOST_BYTES and len(self._copies) > _FEWEST_FILES:
            (_, size, _), copy = self._copies.popitem(last=False)
            total -= size
            copy.unlink(missing_ok=True)


_cache = _Cache()


def cached(path: Path) -> Path:
    """Return the path of a file on this machine: its own, or that of a copy that lasts for the next few files.

    Raises:
        FileNotFoundError: it does not exist, in a store; a local path is not looked at.
        OpenWITError: the store cannot be read, or the disk is full.
    """
    return _cache.copy_of(path) if is_store(path) else path

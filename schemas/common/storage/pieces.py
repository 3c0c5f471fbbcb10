"""Read byte ranges of many files, those of a store at the same time."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from openwit.schemas.common.storage.object_store import ObjectStore
from openwit.schemas.common.storage.store_path import is_store

KEPT_BYTES = 32 << 20
"""Files of a store that are no larger together are fetched once and kept."""


class Piece(NamedTuple):
    """A byte range of a file."""

    path: Path
    start: int
    size: int


class PieceReader:
    """Read pieces of some files, with few requests: a store answers each in milliseconds, however small it is.

    Args:
        sizes: of the files, bytes. Files of a store are kept if `KEPT_BYTES` hold them all; otherwise only the pieces
            are fetched, all of a call at the same time.
    """

    def __init__(self, sizes: Mapping[Path, int]) -> None:
        stored = {path: size for path, size in sizes.items() if is_store(path)}
        self._wanted = stored if sum(stored.values()) <= KEPT_BYTES else {}
        self._kept: dict[Path, bytes] = {}

    def read(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Return the bytes of each piece, in the order given.

        Raises:
            DataError: a file of a store does not exist.
            OpenWITError: the store cannot be read.
        """
        missing = [path for path in self._wanted if path not in self._kept]
        if missing and pieces:
            whole = _fetched([Piece(path, 0, self._wanted[path]) for path in missing])
            self._kept.update(zip(missing, whole, strict=True))
        found: dict[int, bytes] = {}
        remote: list[int] = []
        local: dict[Path, list[int]] = defaultdict(list)
        for number, (path, start, size) in enumerate(pieces):
            if path in self._kept:
                found[number] = self._kept[path][start : start + size]
            elif is_store(path):
                remote.append(number)
            else:
                local[path].append(number)
        found.update(zip(remote, _fetched([pieces[number] for number in remote]), strict=True))
        for path, numbers in local.items():
            with path.open("rb") as file:
                for number in numbers:
                    file.seek(pieces[number].start)
                    found[number] = file.read(pieces[number].size)
        return [found[number] for number in range(len(pieces))]


def _fetched(pieces: Sequence[Piece]) -> list[bytes]:
    """Return pieces of files in stores, with one call for the files of a folder."""
    by_folder: dict[str, list[int]] = defaultdict(list)
    for number, piece in enumerate(pieces):
        by_folder[str(piece.path).rpartition("/")[0]].append(number)
    found: dict[int, bytes] = {}
    for folder, numbers in by_folder.items():
        places = [(pieces[number].path.name, pieces[number].start, pieces[number].size) for number in numbers]
        found.update(zip(numbers, ObjectStore(folder).pieces(places), strict=True))
    return [found[number] for number in range(len(pieces))]

"""Keep features in a folder: a file for each finished chunk, joined into one that is memory-mapped."""

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.atomic import atomic_path, atomic_write, remove_partials
from openwit.schemas.common.locks import hold_lock
from openwit.schemas.common.storage_faults import storage_faults
from openwit.training.evaluation.shares import Shares

_ROWS, _ABOUT = "features.npy", "features.json"


@dataclass(frozen=True)
class Chunk:
    """Features of neighbouring images.

    Attributes:
        rows: (I, D) of the readable ones; (0, 0) where none is, or where they are in a file.
        indices: (I,) their numbers in the set.
        unreadable: keys of the others.
        digest: of the encoded images.
        images: (n,) `image_number` of each image; not in the file, as the images are read each time.
    """

    rows: NDArray[np.float32]
    indices: NDArray[np.int64]
    unreadable: list[str]
    digest: str
    images: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def bare(self) -> "Chunk":
        """Return it without its rows."""
        return replace(self, rows=np.zeros((0, 0), np.float32))


class Cache:
    """The folder of one encoder and one set.

    Args:
        folder: made if it is missing.
        shares: of the processes that use it together.
    """

    def __init__(self, folder: Path, shares: Shares) -> None:
        self._folder = folder
        self._shares = shares
        self._final: list[Chunk] = []

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands out while the block runs."""
        group = self._shares.group
        with storage_faults(self._folder):
            if group is not None and not group.main:
                group.barrier()  # the first process has cleared up what a kill left
                self._final = self._read_final()
                yield
                return
            busy = f"another command computes the features in {self._folder}: wait for it, or use another folder"
            with hold_lock(self._folder / ".lock", busy):
                remove_partials(self._folder)
                if group is not None:
                    group.barrier()
                self._final = self._read_final()
                yield

    def known(self, number: int, digest: str) -> Chunk | None:
        """Return a chunk without its rows if it is there and of these images."""
        if number < len(self._final):
            return self._final[number] if self._final[number].digest == digest else None
        chunk = self._read(number)
        return chunk.bare() if chunk is not None and chunk.digest == digest else None

    def write(self, number: int, chunk: Chunk) -> None:
        """Write a chunk, whole or not at all."""
        about = json.dumps({"unreadable": chunk.unreadable, "digest": chunk.digest})
        with atomic_path(self._path(number)) as path, path.open("wb") as file:
            np.savez(file, rows=chunk.rows, indices=chunk.indices, about=np.array(about))

    def assemble(self, parts: Sequence[Chunk]) -> None:
        """Join the files of all chunks into one, by one process, unless that is done already."""
        group = self._shares.group
        if group is None:
            self._assemble(parts)
        else:
            group.on_all_ranks(lambda: self._assemble(parts) if group.main else None)

    def rows(self) -> NDArray[np.float32]:
        """Return (I, D) of all chunks, memory-mapped."""
        found: NDArray[np.float32] = np.load(self._folder / _ROWS, mmap_mode="r")
        return found

    def _assemble(self, parts: Sequence[Chunk]) -> None:
        if [part.digest for part in self._final] == [part.digest for part in parts]:
            return
        count = sum(len(part.indices) for part in parts)
        before = self.rows() if self._final else None
        starts = np.cumsum([0, *(len(part.indices) for part in self._final)])
        with atomic_path(self._folder / _ROWS) as path:
            table: np.memmap[Any, np.dtype[np.float32]] | None = None
            row = 0
            for number, part in enumerate(parts):
                held = number < len(self._final) and self._final[number].digest == part.digest
                if held and before is not None:
                    rows = before[starts[number] : starts[number + 1]]
                else:
                    chunk = self._read(number)
                    assert chunk is not None, f"chunk {number} was written by this command"
                    rows = chunk.rows
                if not len(rows):
                    continue
                if table is None:
                    shape = (count, rows.shape[1])
                    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
                table[row : row + len(rows)] = rows
                row += len(rows)
            if table is None:
                with path.open("wb") as file:
                    np.save(file, np.zeros((0, 0), np.float32))
            else:
                table.flush()
                del table
            # Before the rename: rows without a description are computed again, never taken for others'.
            (self._folder / _ABOUT).unlink(missing_ok=True)
        chunks = [
            {"indices": _runs(part.indices), "unreadable": part.unreadable, "digest": part.digest} for part in parts
        ]
        atomic_write(self._folder / _ABOUT, json.dumps({"chunks": chunks}) + "\n")
        for number in range(len(parts)):
            self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"chunk-{number:06d}.npz"

    def _read(self, number: int) -> Chunk | None:
        """Return a chunk's file; None if it is missing or damaged."""
        try:
            with np.load(self._path(number), allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                return Chunk(file["rows"], file["indices"], list(about["unreadable"]), str(about["digest"]))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None

    def _read_final(self) -> list[Chunk]:
        """Return the chunks of the joined file, without rows; none if it is missing or damaged."""
        none = np.zeros((0, 0), np.float32)
        with suppress(OSError, ValueError, KeyError, TypeError, EOFError):
            about = json.loads((self._folder / _ABOUT).read_text(encoding="utf-8"))
            chunks = [
                Chunk(none, _numbers(each["indices"]), list(each["unreadable"]), str(each["digest"]))
                for each in about["chunks"]
            ]
            if len(self.rows()) == sum(len(chunk.indices) for chunk in chunks):
                return chunks
        return []


def _runs(indices: NDArray[np.int64]) -> list[list[int]]:
    """Return ascending numbers as [start, end) pairs."""
    if not len(indices):
        return []
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    return [[int(run[0]), int(run[-1]) + 1] for run in np.split(indices, breaks)]


def _numbers(runs: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(start, end) for start, end in runs] or [np.zeros(0, np.int64)]).astype(np.int64)

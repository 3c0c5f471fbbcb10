"""Write by what the images of a lock are compared, and map it into the memory that all workers of a machine share.

Three files: hashes of the URLs in order, the row of each, and a record of `FACTS` for each row of the lock; 168 bytes
per image.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.common.urls import url_hashes
from openwit.pipeline.rehydration.lockfile import Lock
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.store_path import as_path

COMPARED = ["sha256", "pixels_hash", "phash", "fingerprint"]
FACTS = np.dtype(
    [
        ("sha256", "S64"),
        ("pixels_hash", "S32"),
        ("phash", np.uint64),
        ("fingerprint", np.uint8, (44,)),
        ("is_described", np.bool_),
    ],
    align=True,
)
"""By what images are compared; an empty hash of pixels, or no descriptor, is one that is not known."""

_HASHES, _ROWS, _FACTS = "hashes.npy", "rows.npy", "facts.npy"


def facts_of(images: pa.Table) -> np.ndarray:
    """Return the columns `COMPARED` of N images as records of FACTS (N,)."""
    facts = np.zeros(images.num_rows, FACTS)
    if images.num_rows:
        for name in ("sha256", "pixels_hash"):
            known = pc.fill_null(images.column(name), "")
            facts[name] = np.array([text.encode() for text in known.to_pylist()])
        facts["phash"] = images.column("phash").to_numpy()
        described = images.column("fingerprint").to_pylist()
        unknown = bytes(44)
        raw = b"".join(unknown if each is None else each for each in described)
        facts["fingerprint"] = np.frombuffer(raw, np.uint8).reshape(-1, 44)
        facts["is_described"] = images.column("fingerprint").is_valid().to_numpy()
    return facts


def write_index(lock: Lock, folder: Path) -> None:
    """Write the index of a lock to a folder."""
    order = np.argsort(lock.url_hashes, kind="stable")
    with atomic_path(folder / _ROWS) as path, path.open("wb") as file:
        np.save(file, order)
    with atomic_path(folder / _HASHES) as path, path.open("wb") as file:
        np.save(file, lock.url_hashes[order])
    with atomic_path(folder / _FACTS) as path, path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(FACTS), "fortran_order": False, "shape": (len(order),)}
        np.lib.format.write_array_header_2_0(file, header)
        for batch in lock.batches(COMPARED):
            file.write(facts_of(batch).tobytes())


class LockIndex:
    """Find the rows of a lock by the URL of the image, in files that are mapped, not read."""

    def __init__(self, folder: Path) -> None:
        self._hashes, self._rows, self._facts = (mapped(folder / name) for name in (_HASHES, _ROWS, _FACTS))

    def facts(self, rows: np.ndarray) -> np.ndarray:
        """Return by what some images of the lock are compared: FACTS (N,).

        Args:
            rows: int64 (N,).
        """
        found: np.ndarray = self._facts[rows]
        return found

    def rows(self, urls: list[str]) -> np.ndarray:
        """Return the rows of N images, -1 for one that is not in the lock: int64 (N,)."""
        if not len(self._hashes):
            return np.full(len(urls), -1)
        wanted = url_hashes(urls)
        at = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        return np.where(self._hashes[at] == wanted, self._rows[at], -1)


def mapped(path: Path) -> Any:
    """Return an array of a file of this machine or a store, mapped."""
    return np.load(cached(path), mmap_mode="r")


@lru_cache(maxsize=1)
def read_index(folder: str, sha256: str) -> LockIndex:  # noqa: ARG001
    """Map the index of a lock with a checksum, once per process."""
    return LockIndex(as_path(folder))

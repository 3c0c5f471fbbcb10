"""Leave dead pairs out of the pool: those whose image is gone or changed, and which no query may draw any more."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.stages.select.hash_uniform import pair_hashes
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.locks import DEAD


class Dead(NamedTuple):
    """What is dead: hashes of URLs with all their pairs, and of single pairs; `kept` pairs live whatever their URL.

    Each is uint64 (N,): xxh3-64 of a normalised URL, or a folded pair id (`pair_hashes`).
    """

    urls: np.ndarray
    pairs: np.ndarray
    kept: np.ndarray

    def mask(self, urls: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Return which pairs are dead: bool (N,).

        Args:
            urls, pairs: uint64 (N,), hashes of the pairs' URLs and ids.
        """
        dead: np.ndarray = np.isin(urls, self.urls) | np.isin(pairs, self.pairs)
        return dead & ~np.isin(pairs, self.kept)

    def rows(self, matches: pa.Table) -> np.ndarray:
        """Return which rows of MATCHES are dead: bool (N,)."""
        pairs = pair_hashes(matches.column("pair_id").combine_chunks())
        return self.mask(matches.column("url_hash").to_numpy(), pairs)


def write_dead(path: Path, dead: Dead) -> None:
    """Write a list of what is dead; one of the same name is forgotten."""
    names = np.repeat(np.array(Dead._fields), [len(hashes) for hashes in dead])
    hashes = np.concatenate([np.sort(hashes) for hashes in dead]) if len(names) else np.zeros(0, np.uint64)
    DEAD.write(path, DEAD.table({"what": pa.array(names.tolist(), pa.string()), "hash": hashes}))
    read_dead.cache_clear()


def dead_rows(path: str | None, matches: pa.Table) -> np.ndarray:
    """Return which rows of MATCHES are dead, by a list; bool (N,), none without one."""
    return np.zeros(matches.num_rows, bool) if path is None else read_dead(path).rows(matches)


@lru_cache(maxsize=1)
def read_dead(path: str) -> Dead:
    """Read a list, once per process; a list does not change while workers run.

    Raises:
        SchemaError: it cannot be read.
    """
    table = DEAD.read(as_path(path))
    what, hashes = table.column("what"), table.column("hash")
    return Dead(*(hashes.filter(pc.equal(what, name)).to_numpy() for name in Dead._fields))

"""Know which pairs of a pool are dead: what the first build lost, and what has died since."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openwit.pipeline.common.urls import url_hashes
from openwit.pipeline.execution.files import checked
from openwit.pipeline.execution.stage import StageManifest
from openwit.pipeline.rehydration.locked import lock_pairs
from openwit.pipeline.rehydration.lockfile import Lock
from openwit.pipeline.rehydration.verdict import ALIVE
from openwit.pipeline.stages.select.balance import ragged
from openwit.pipeline.stages.select.dead import Dead
from openwit.pipeline.stages.select.hash_uniform import pair_hashes, query_hashes, uniform
from openwit.pipeline.stages.sidecars import QUERY_COUNTS_FILE, REHYDRATED_FILE
from openwit.schemas.common.errors import DataError
from openwit.schemas.tables.locks import REHYDRATED
from openwit.schemas.tables.queries import QUERY_COUNTS


class DeadPairs:
    """Collect what is dead, and what was tried.

    A pair of the first draw that the dataset does not hold was lost by its build (a failed download, a duplicate,
    an evaluation image) and counts as dead with its image. A text that a duplicate left to a sample
    lives with the sample.

    Args:
        lock: of the dataset.
        verified: folder with what became of its samples.
        first: finished selection from which the dataset was built.
    """

    def __init__(self, lock: Lock, verified: Path, first: Path) -> None:
        alive = np.isin(REHYDRATED.read(verified / REHYDRATED_FILE).column("status").to_pylist(), sorted(ALIVE))
        pairs, owner = lock_pairs(lock)
        hashes = pair_hashes(pairs)
        self._urls = lock.url_hashes
        self._alive_pairs = hashes[alive[owner]]
        urls, lost = self._lost(lock, first, hashes)
        self._dead_urls = [self._urls[~alive], urls]
        self._dead_pairs = lost
        self._tried = [self._urls]

    def _lost(self, lock: Lock, first: Path, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return URLs and pairs of the first draw that the build lost, and URLs of duplicates of living samples."""
        thresholds, texts = _thresholds(lock, first)
        hashes = query_hashes(texts)
        dead_urls, dead_pairs = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        for path in StageManifest.load(first, "select").paths(first, "selected"):
            table = pq.read_table(checked(path), columns=["pair_id", "url", "query_ids"])
            pairs = pair_hashes(table.column("pair_id").combine_chunks())
            rows, ids = ragged(table.column("query_ids").combine_chunks())
            drawn = np.zeros(len(pairs), bool)
            drawn[rows[uniform(pairs[rows], hashes[ids], seed=lock.notes.seed) <= thresholds[ids]]] = True
            urls = url_hashes(table.column("url").to_pylist())
            elsewhere = ~np.isin(urls, self._urls)
            lost = drawn & ~np.isin(pairs, held)
            merged = np.isin(pairs, self._alive_pairs)
            dead_pairs.append(pairs[lost])
            dead_urls.append(urls[elsewhere & (lost | merged)])
        return np.unique(np.concatenate(dead_urls)), np.unique(np.concatenate(dead_pairs))

    def dead(self) -> Dead:
        """Return what a selection must leave out now."""
        return Dead(np.unique(np.concatenate(self._dead_urls)), self._dead_pairs, np.unique(self._alive_pairs))

    def tried(self) -> Dead:
        """Return what need not be asked for: URLs that were, and pairs that living samples hold."""
        return Dead(np.unique(np.concatenate(self._tried)), np.unique(self._alive_pairs), np.zeros(0, np.uint64))

    def add_round(self, asked: Path, fetched: Path) -> int:
        """Add what a round of refilling asked for and did not get; return the number of dead images.

        Args:
            asked: folder of the pairs that were asked for.
            fetched: folder of what was fetched.
        """
        self._tried.append(urls_of(StageManifest.load_any(asked, []).paths(asked, "selected")))
        gone = urls_of(StageManifest.load(fetched, "fetch").paths(fetched, "drops"))
        self._dead_urls.append(gone)
        return len(gone)


def urls_of(files: Iterable[Path]) -> np.ndarray:
    """Return the hashes of the URLs in some files, each once: uint64 (N,), sorted."""
    found = [url_hashes(pq.read_table(checked(path), columns=["url"]).column("url").to_pylist()) for path in files]
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *found]))


def _thresholds(lock: Lock, first: Path) -> tuple[np.ndarray, list[str]]:
    """Return the thresholds under which the dataset was drawn, float64 (Q,), and the queries.

    Raises:
        DataError: the first selection was made for other queries.
    """
    queries = lock.queries
    before = QUERY_COUNTS.read(checked(first / QUERY_COUNTS_FILE))
    if queries is None or not before.column("query").equals(queries.column("query")):
        raise DataError(f"{first} was selected by other queries than {lock.path}: give the candidates of its build")
    pairs = (table.column("threshold").to_numpy() for table in (queries, before))
    return np.minimum(*pairs), queries.column("query").to_pylist()


def count_short(final: Path, cap: int) -> int:
    """Return the number of queries of a selection that draw fewer pairs than the cap: their pool is exhausted."""
    drawn = QUERY_COUNTS.read(final / QUERY_COUNTS_FILE).column("drawn")
    return int(pc.sum(pc.less(drawn, pa.scalar(cap, pa.int64()))).as_py() or 0)

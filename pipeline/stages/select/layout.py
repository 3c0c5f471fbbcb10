"""Read the draws for the passes of a selection, and sum their counts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.execution.jobs import TaskResult
from openwit.pipeline.stages.select import DrawPaths, SelectPaths
from openwit.pipeline.stages.select.balance import ragged
from openwit.pipeline.stages.select.draw import DrawResult
from openwit.pipeline.stages.select.hash_uniform import pair_hashes, query_hashes, uniform
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.candidates import MATCHES, VERDICTS
from openwit.schemas.tables.queries import QUERY_DRAWS


def query_offsets(matches: pa.Table) -> np.ndarray:
    """Return the offsets of the query lists of a MATCHES table: int32 (N + 1,)."""
    offsets: np.ndarray = matches.column("query_ids").combine_chunks().offsets.to_numpy()
    return offsets


def draws_table(rows: np.ndarray, ids: np.ndarray, result: DrawResult) -> pa.Table:
    """Return what the pairs of a file add to each query's counts, as QUERY_DRAWS.

    Args:
        rows, ids: int64 (M,), int32 (M,): every (row, query it matches).
        result: which rows are kept, and which queries drew them.
    """
    kept_ids, kept = np.unique(ids[result.kept[rows]], return_counts=True)
    drawn_ids, drawn_counts = np.unique(result.drawn_by.flatten().to_numpy(), return_counts=True)
    drawn = np.zeros(len(kept_ids), np.int64)
    drawn[np.searchsorted(kept_ids, drawn_ids)] = drawn_counts
    return QUERY_DRAWS.table({"query_id": kept_ids, "drawn": drawn, "kept": kept})


def sum_draws(folder: Path, results: Sequence[TaskResult], queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum the QUERY_DRAWS that tasks wrote below `draws/`: drawn and kept, int64 (Q,) each."""
    drawn, kept = np.zeros(queries, np.int64), np.zeros(queries, np.int64)
    for result in results:
        table = QUERY_DRAWS.read(DrawPaths(folder).draws(result.task))
        ids = table.column("query_id").to_numpy()
        drawn[ids] += table.column("drawn").to_numpy()
        kept[ids] += table.column("kept").to_numpy()
    return drawn, kept


class _Queries(NamedTuple):
    """The queries of a list and their hashes, uint64 (Q,)."""

    texts: pa.Array
    hashes: np.ndarray


@lru_cache(maxsize=1)
def _read_queries(path: Path, size: int, mtime_ns: int) -> _Queries:  # noqa: ARG001
    """Read a list, once for all jobs of a worker; size and time of change tell one state of the file from another."""
    texts = pq.read_table(path, columns=["query"]).column("query").combine_chunks()
    return _Queries(texts, query_hashes(texts.to_pylist()))


class Draws(NamedTuple):
    """The pairs of a file that queries may draw.

    Attributes:
        rows, ids, u: int64 (M,), int32 (M,), float64 (M,): every (row, query it matches), and its u.
        pairs: rows of the file.
    """

    rows: np.ndarray
    ids: np.ndarray
    u: np.ndarray
    pairs: int


class DrawSource(ABC):
    """Give the draws to the passes that find and apply thresholds; travels to the workers.

    Args:
        queries: Parquet file with the column `query`, one row per query, in the order of the query ids.
        seed: of the draw.
    """

    def __init__(self, queries: Path, seed: int) -> None:
        self.queries = str(queries)
        self.seed = seed

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_known"}

    @cached_property
    def _known(self) -> "_Queries":
        path = cached(as_path(self.queries))
        facts = path.stat()
        return _read_queries(path, facts.st_size, facts.st_mtime_ns)

    def text(self, query: int) -> str:
        """Return a query by its id."""
        text: str = self._known.texts[query].as_py()
        return text

    @property
    def hashes(self) -> np.ndarray:
        """Return hashes of the queries: uint64 (Q,)."""
        return self._known.hashes

    @abstractmethod
    def pairs(self, file: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the pairs of a file that are in the pool.

        Args:
            file: its name.

        Returns:
            Each (row, matching query), int64 (M,) and int32 (M,), and the folded id of every pair of the file,
            uint64 (N,).
        """

    def draws(self, file: str) -> Draws:
        """Return the draws of a file of the pool, by its name."""
        rows, ids, pairs = self.pairs(file)
        return Draws(rows, ids, uniform(pairs[rows], self.hashes[ids], seed=self.seed), len(pairs))


class MatchedDraws(DrawSource):
    """Read draws among the candidates that matching kept in the pool.

    Args:
        folder: of the stage select.
        queries: of `QUERIES`.
    """

    def __init__(self, folder: Path, queries: Path, seed: int) -> None:
        super().__init__(queries, seed)
        self.folder = str(folder)

    def pairs(self, file: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        paths = SelectPaths(as_path(self.folder))
        matches = MATCHES.read(paths.matches(file))
        verdict = VERDICTS.read(paths.verdicts(file)).column("verdict").to_numpy()
        rows, ids = ragged(matches.column("query_ids").combine_chunks())
        in_pool = verdict[rows] == 0
        return rows[in_pool], ids[in_pool], pair_hashes(matches.column("pair_id").combine_chunks())

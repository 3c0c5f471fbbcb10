"""Files that the passes of selection write for each other, one per candidates file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from openwit.pipeline.execution.jobs import TaskResult
from openwit.pipeline.stages.select.balance import ragged
from openwit.pipeline.stages.select.draw import Kept
from openwit.pipeline.stages.select.hash_uniform import pair_hashes, uniform
from openwit.schemas.tables.candidates import MATCHES, VERDICTS
from openwit.schemas.tables.queries import QUERY_DRAWS


def matches_path(folder: Path, name: str) -> Path:
    """MATCHES of the candidates file that the task of this name matched."""
    return folder / "matches" / f"{name}.parquet"


def verdicts_path(folder: Path, name: str) -> Path:
    """VERDICTS of the candidates file that the task of this name matched."""
    return folder / "verdicts" / f"{name}.parquet"


def samples_path(folder: Path, name: str) -> Path:
    """PAIR_SAMPLES of the candidates file that the task of this name matched."""
    return folder / "samples" / f"{name}.parquet"


def query_offsets(matches: pa.Table) -> np.ndarray:
    """Offsets of the query lists of a MATCHES table: int32 (N + 1,)."""
    offsets: np.ndarray = matches.column("query_ids").combine_chunks().offsets.to_numpy()
    return offsets


def draws_table(rows: np.ndarray, ids: np.ndarray, result: Kept) -> pa.Table:
    """What the pairs of a file add to each query's counts, as QUERY_DRAWS.

    Args:
        rows, ids: int64 (M,), int32 (M,): every (row, query it matches).
        result: which rows stay, and who drew them.
    """
    kept_ids, kept = np.unique(ids[result.kept[rows]], return_counts=True)
    drawn_ids, drawn_counts = np.unique(result.drawn_by.flatten().to_numpy(), return_counts=True)
    drawn = np.zeros(len(kept_ids), np.int64)
    drawn[np.searchsorted(kept_ids, drawn_ids)] = drawn_counts
    return QUERY_DRAWS.table({"query_id": kept_ids, "drawn": drawn, "kept": kept})


def sum_draws(folder: Path, results: Sequence[TaskResult], queries: int) -> tuple[np.ndarray, np.ndarray]:
    """The QUERY_DRAWS that tasks wrote below `draws/`, added up: drawn and kept, int64 (Q,) each."""
    drawn, kept = np.zeros(queries, np.int64), np.zeros(queries, np.int64)
    for result in results:
        table = QUERY_DRAWS.read(folder / "draws" / f"{result.task}.parquet")
        ids = table.column("query_id").to_numpy()
        drawn[ids] += table.column("drawn").to_numpy()
        kept[ids] += table.column("kept").to_numpy()
    return drawn, kept


def pool_draws(folder: Path, name: str, hashes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (pool row, query it matches) of a file with its u: int64 (M,), int32 (M,), float64 (M,)."""
    matches = MATCHES.read(matches_path(folder, name))
    verdict = VERDICTS.read(verdicts_path(folder, name)).column("verdict").to_numpy()
    rows, ids = ragged(matches.column("query_ids").combine_chunks())
    in_pool = verdict[rows] == 0
    rows, ids = rows[in_pool], ids[in_pool]
    pairs = pair_hashes(matches.column("pair_id").combine_chunks())
    return rows, ids, uniform(pairs[rows], hashes[ids], seed=seed)

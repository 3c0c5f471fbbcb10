"""Selection, pass 3: the u up to which each query draws."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openwit.pipeline.execution.blobs import bucket_count, concat_blobs, split_by, to_blob
from openwit.pipeline.execution.jobs import Emitted, Emitter, Grouping, Keyed, Round, RoundsJob, Streams, Task
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.select.balance import cap_smallest, probabilistic_thresholds, send_bounds
from openwit.pipeline.stages.select.hash_uniform import query_hashes
from openwit.pipeline.stages.select.layout import pool_draws
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.schemas.tables.queries import THRESHOLDS

# How much wider the bound gets for queries that sent fewer than their cap by chance.
_WIDEN = 4.0
_DRAWS = "draws"


class SendDraws(Emitter[Any]):
    """File -> (bucket of queries, (q, u) of its pool rows below each query's bound)."""

    def __init__(self, folder: str, hashes: np.ndarray, bounds: np.ndarray, seed: int, buckets: int) -> None:
        self.folder = folder
        self.buckets = buckets
        self.hashes = hashes
        self.bounds = bounds
        self.seed = seed

    def emit(self, task: Task[Any]) -> Emitted:
        folder = Path(self.folder)
        _, ids, u = pool_draws(folder, task.name, self.hashes, self.seed)
        below = u <= self.bounds[ids]
        ids, u = ids[below], u[below]
        draws = pa.table({"query_id": pa.array(ids), "u": pa.array(u)})
        for bucket, part in split_by(draws, ids % self.buckets):
            yield Keyed(_DRAWS, bucket, to_blob(part))


class FindThresholds(Grouping):
    """(bucket, draws) -> a thresholds file of the bucket's queries."""

    def __init__(self, folder: str, cap: int) -> None:
        self.folder = folder
        self.cap = cap

    def process(self, key: int, streams: Streams) -> Emitted:
        draws = concat_blobs(streams[_DRAWS])
        ids, thresholds, sent = cap_smallest(
            draws.column("query_id").to_numpy(), draws.column("u").to_numpy(), self.cap
        )
        table = THRESHOLDS.table({"query_id": ids.astype(np.int32), "threshold": thresholds, "sent": sent})
        THRESHOLDS.write(Path(self.folder) / f"{key:05d}.parquet", table)
        return iter(())


def find_thresholds(
    job: Job,
    settings: SelectSettings,
    folder: Path,
    tasks: Sequence[Task[Any]],
    pool: np.ndarray,
    texts: list[str],
    drawn_cap: int,
) -> np.ndarray:
    """The u up to which each query draws: float64 (Q,), 1 where it draws all its pairs.

    Args:
        folder: holds the matches and verdicts of the tasks.
        pool: int64 (Q,), N_q.
        texts: of the queries.
        drawn_cap: pairs a query may draw here.
    """
    if settings.balance == "probabilistic":
        return probabilistic_thresholds(pool, drawn_cap)
    thresholds = np.ones(len(pool))
    asked = pool > drawn_cap
    hashes = query_hashes(texts)
    widen = 1.0
    while asked.any():
        bounds = np.where(asked, send_bounds(pool, drawn_cap, widen=widen), 0.0)
        found, sent = _below_bounds(job, settings, folder, tasks, pool, hashes, bounds, drawn_cap)
        enough = asked & (sent >= drawn_cap)
        thresholds[enough] = found[enough]
        asked &= ~enough
        widen *= _WIDEN
    return thresholds


def _below_bounds(
    job: Job,
    settings: SelectSettings,
    folder: Path,
    tasks: Sequence[Task[Any]],
    pool: np.ndarray,
    hashes: np.ndarray,
    bounds: np.ndarray,
    cap: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Runs one round: the cap-th smallest u below the bound of each query, and how many were sent."""
    target = folder / "thresholds"
    for old in target.glob("*.parquet"):
        old.unlink()
    target.mkdir(exist_ok=True)

    buckets = bucket_count(float((bounds * pool).sum()))
    send = SendDraws(str(folder), hashes, bounds, settings.seed, buckets)
    round_ = Round("Find thresholds", (_DRAWS,), FindThresholds(str(target), cap))
    job.engine.run_rounds(folder, RoundsJob("Find thresholds", tasks, send, (_DRAWS,), [round_]))
    found, sent = np.zeros(len(bounds)), np.zeros(len(bounds), np.int64)
    for path in sorted(target.glob("*.parquet")):
        table = THRESHOLDS.read(path)
        ids = table.column("query_id").to_numpy()
        found[ids] = table.column("threshold").to_numpy()
        sent[ids] = table.column("sent").to_numpy()
    return found, sent

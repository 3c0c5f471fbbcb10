"""Selection, pass 3: find each query's acceptance threshold on u."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openwit.pipeline.execution.blobs import bucket_count, concat_blobs, split_by, to_blob
from openwit.pipeline.execution.bucket_files import bucket_path, bucket_paths, written_bucket, written_buckets
from openwit.pipeline.execution.files import STAGE
from openwit.pipeline.execution.jobs import Emitted, Emitter, Grouping, KeyedBlob, Round, RoundsJob, Streams, Task
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.select import DrawPaths
from openwit.pipeline.stages.select.balance import cap_smallest, probabilistic_thresholds, send_bounds
from openwit.pipeline.stages.select.layout import DrawSource
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.queries import THRESHOLDS

# Factor on the bound for queries that sent fewer than their cap by chance.
_WIDEN = 4.0
_DRAWS = "draws"


class SendDraws(Emitter[Any]):
    """File -> (bucket of queries, (q, u) of its pool rows below each query's bound).

    Args:
        bounds: path of the bounds as NumPy array, float64 (Q,): workers read them, so that they are not sent along.
    """

    def __init__(self, source: DrawSource, bounds: str, buckets: int) -> None:
        self.source = source
        self.bounds = bounds
        self.buckets = buckets
        self._bounds = np.zeros(0)

    def setup(self) -> None:
        """Read the bounds."""
        self._bounds = np.load(cached(as_path(self.bounds)))

    def emit(self, task: Task[Any]) -> Emitted:
        draws = self.source.draws(task.name)
        below = draws.u <= self._bounds[draws.ids]
        ids, u = draws.ids[below], draws.u[below]
        table = pa.table({"query_id": pa.array(ids), "u": pa.array(u)})
        for bucket, part in split_by(table, ids % self.buckets):
            yield KeyedBlob(_DRAWS, bucket, to_blob(part))


class FindThresholds(Grouping):
    """(bucket, draws) -> a thresholds file of the bucket's queries."""

    def __init__(self, folder: str, cap: int, buckets: int) -> None:
        self.folder = folder
        self.cap = cap
        self.buckets = buckets

    def process(self, key: int, streams: Streams) -> Emitted:
        draws = concat_blobs(streams[_DRAWS])
        ids, thresholds, sent = cap_smallest(
            draws.column("query_id").to_numpy(), draws.column("u").to_numpy(), self.cap
        )
        table = THRESHOLDS.table({"query_id": ids.astype(np.int32), "threshold": thresholds, "sent": sent})
        THRESHOLDS.write(bucket_path(as_path(self.folder), key), table)
        yield written_bucket(key, self.buckets)


def find_thresholds(
    job: Job,
    settings: SelectSettings,
    folder: Path,
    tasks: Sequence[Task[Any]],
    source: DrawSource,
    pool: np.ndarray,
    drawn_cap: int,
) -> np.ndarray:
    """Return each query's acceptance threshold on u: float64 (Q,), 1 for a query that draws all its pairs.

    Args:
        folder: of the stage.
        tasks: the files of the pool.
        source: gives the draws of each.
        pool: int64 (Q,), N_q.
        drawn_cap: maximum number of pairs per query in this draw.
    """
    if settings.balance == "probabilistic":
        return probabilistic_thresholds(pool, drawn_cap)
    thresholds = np.ones(len(pool))
    open_ = pool > drawn_cap
    widen = 1.0
    while open_.any():
        bounds = np.where(open_, send_bounds(pool, drawn_cap, widen=widen), 0.0)
        found, sent = _below_bounds(job, folder, tasks, source, pool, bounds, drawn_cap)
        enough = open_ & (sent >= drawn_cap)
        thresholds[enough] = found[enough]
        open_ &= ~enough
        widen *= _WIDEN
    return thresholds


def _below_bounds(
    job: Job,
    folder: Path,
    tasks: Sequence[Task[Any]],
    source: DrawSource,
    pool: np.ndarray,
    bounds: np.ndarray,
    cap: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Run one round; return the cap-th smallest u below each query's bound, and the number of draws sent."""
    target = DrawPaths(folder).threshold_buckets
    for old in target.glob("*.parquet"):
        old.unlink()
    target.mkdir(exist_ok=True)

    buckets = bucket_count(float((bounds * pool).sum()))
    listed = folder / STAGE / "bounds.npy"
    with atomic_path(listed) as path, path.open("wb") as file:
        np.save(file, bounds)
    send = SendDraws(source, str(listed), buckets)
    round_ = Round("Find thresholds", (_DRAWS,), FindThresholds(str(target), cap, buckets))
    rounds = RoundsJob("Find thresholds", tasks, send, (_DRAWS,), [round_], sums=(written_buckets(buckets),))
    written = job.engine.run_rounds(folder, rounds)
    listed.unlink()
    found, sent = np.zeros(len(bounds)), np.zeros(len(bounds), np.int64)
    for path in bucket_paths(target, written):
        table = THRESHOLDS.read(path)
        ids = table.column("query_id").to_numpy()
        found[ids] = table.column("threshold").to_numpy()
        sent[ids] = table.column("sent").to_numpy()
    return found, sent

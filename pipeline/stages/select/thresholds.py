"""Selection, pass 3: the u up to which each query draws."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from openwit.pipeline.execution.blobs import bucket_count, concat_blobs, split_by, to_blob
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.execution.tasks import Task, run_job
from openwit.pipeline.stages.select.balance import cap_smallest, probabilistic_thresholds, send_bounds
from openwit.pipeline.stages.select.hash_uniform import query_hashes
from openwit.pipeline.stages.select.layout import pool_draws
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.schemas.tables.queries import THRESHOLDS

# How much wider the bound gets for queries that sent fewer than their cap by chance.
_WIDEN = 4.0


class SendDraws(beam.DoFn):
    """task -> (bucket of queries, (q, u) of its pool rows below each query's bound)."""

    def __init__(self, folder: str, hashes: np.ndarray, bounds: np.ndarray, seed: int, buckets: int) -> None:
        self.folder = folder
        self.buckets = buckets
        self.hashes = hashes
        self.bounds = bounds
        self.seed = seed

    def process(self, task: Task) -> Iterator[tuple[int, bytes]]:
        folder = Path(self.folder)
        _, ids, u = pool_draws(folder, task, self.hashes, self.seed)
        below = u <= self.bounds[ids]
        ids, u = ids[below], u[below]
        draws = pa.table({"query_id": pa.array(ids), "u": pa.array(u)})
        for bucket, part in split_by(draws, ids % self.buckets):
            yield bucket, to_blob(part)


class FindThresholds(beam.DoFn):
    """(bucket, draws) -> a thresholds file of the bucket's queries."""

    def __init__(self, folder: str, cap: int) -> None:
        self.folder = folder
        self.cap = cap

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[int]:
        draws = concat_blobs(list(element[1]))
        ids, thresholds, sent = cap_smallest(
            draws.column("query_id").to_numpy(), draws.column("u").to_numpy(), self.cap
        )
        table = THRESHOLDS.table({"query_id": ids.astype(np.int32), "threshold": thresholds, "sent": sent})
        THRESHOLDS.write(Path(self.folder) / f"{element[0]:05d}.parquet", table)
        yield element[0]


def find_thresholds(
    job: Job,
    settings: SelectSettings,
    folder: Path,
    tasks: list[Task],
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
        buckets = bucket_count(float((bounds * pool).sum()))
        found, sent = _ask(job, settings, folder, tasks, hashes, bounds, drawn_cap, buckets)
        enough = asked & (sent >= drawn_cap)
        thresholds[enough] = found[enough]
        asked &= ~enough
        widen *= _WIDEN
    return thresholds


def _ask(
    job: Job,
    settings: SelectSettings,
    folder: Path,
    tasks: list[Task],
    hashes: np.ndarray,
    bounds: np.ndarray,
    cap: int,
    buckets: int,
) -> tuple[np.ndarray, np.ndarray]:
    """One round: the cap-th smallest u below the bound of each query, and how many were sent."""
    target = folder / "thresholds"
    for old in target.glob("*.parquet"):
        old.unlink()
    target.mkdir(exist_ok=True)

    send_draws = SendDraws(str(folder), hashes, bounds, settings.seed, buckets)

    def construct(pipeline: beam.Pipeline) -> None:
        _ = (
            pipeline
            | "List files" >> beam.Create(tasks, reshuffle=False)
            | "Spread files" >> beam.Reshuffle()
            | "Send draws" >> beam.ParDo(send_draws).with_output_types(tuple[int, bytes])
            | "Group draws by query" >> beam.GroupByKey()
            | "Find thresholds" >> beam.ParDo(FindThresholds(str(target), cap))
        )

    run_job(job.runner, folder, construct)
    found, sent = np.zeros(len(bounds)), np.zeros(len(bounds), np.int64)
    for path in sorted(target.glob("*.parquet")):
        table = THRESHOLDS.read(path)
        ids = table.column("query_id").to_numpy()
        found[ids] = table.column("threshold").to_numpy()
        sent[ids] = table.column("sent").to_numpy()
    return found, sent

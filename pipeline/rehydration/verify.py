"""Verify a lock: compare each image that was fetched again with what was locked, file by file."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openwit.pipeline.execution.files import checked, file_entry
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job, StageResult
from openwit.pipeline.rehydration.fact_index import COMPARED, facts_of, read_index, write_index
from openwit.pipeline.rehydration.locked import LockSettings, LockStage
from openwit.pipeline.rehydration.verdict import ALIVE, GONE, INPUT_NOT_HERE, Verdict, judge_drop, judge_images
from openwit.pipeline.stages.base import IMAGES as IMAGES_KIND
from openwit.pipeline.stages.base import BuildContext, Inputs, Kind, Port
from openwit.pipeline.stages.sidecars import REHYDRATED_FILE
from openwit.schemas.common.storage.reading import remove_tree
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.locks import CHECKED, REHYDRATED

CHECKED_KIND = Kind("rehydrated", "openwit.schemas.tables.locks:REHYDRATED", "what became of each sample of a lock")
_INDEX = "index"
_MISSING = f"{INPUT_NOT_HERE}: its bytes lay in an input file that is not here"


@dataclass(frozen=True)
class Source:
    """A file of an earlier step, the number of the step among several, and the file of verdicts on its rows."""

    path: str
    step: int = 0
    verdicts: str | None = None


class Verify(LockStage):
    """Compare each image of a lock that was fetched again with what was locked."""

    name = "verify"
    version = 2
    summary = "compare each image of a lockfile that was fetched again with what was locked"
    inputs = (Port("images", IMAGES_KIND, "the images of the lock, fetched again"),)
    output = CHECKED_KIND

    def execute(
        self,
        job: Job,
        settings: LockSettings,
        inputs: Inputs,
        folder: Path,
        build: BuildContext,  # noqa: ARG002
    ) -> StageResult:
        lock = self.lock(settings)
        fetched = inputs.one("images")
        index = folder / _INDEX
        index.mkdir(parents=True, exist_ok=True)
        write_index(lock, index)
        tasks: list[Task[Source]] = []
        for step, kind in enumerate(("images", "drops")):
            for path in fetched.stage_manifest().paths(fetched.folder, kind):
                tasks.append(Task(len(tasks), f"{kind}-{path.stem}", Source(str(path), step)))
        results = job.run(folder, tasks, "Verify images", "images", VerifyFile(str(index), lock.sha256))
        result = StageResult()
        result.add_results(results, [])
        # Drops after images: what was fetched and then dropped was dropped.
        files = [verdict_file(folder, *task.name.split("-", 1)) for task in tasks]
        statuses: Counter[str] = Counter()
        target = folder / REHYDRATED_FILE
        REHYDRATED.write(target, _told(files, lock.notes.samples, lock.batches(["uid"]), statuses))
        result.files.append(file_entry(folder, target))
        result.extra = {"statuses": dict(sorted(statuses.items()))}
        remove_tree(index)
        return result


def verdict_file(folder: Path, kind: str, stem: str) -> Path:
    """Return the path of the verdicts on the rows of a file of images or drops."""
    return folder / "verdicts" / f"{kind}-{stem}.parquet"


def alive_rows(verdicts: Path) -> pa.Array:
    """Return which rows of a file of images are alive: bool (N,)."""
    status = CHECKED.read(checked(verdicts)).column("status")
    return pa.array(np.isin(status.to_pylist(), sorted(ALIVE)))


def _told(files: list[Path], samples: int, uids: Iterator[pa.Table], statuses: Counter[str]) -> Iterator[pa.Table]:
    """Yield REHYDRATED in the order of the lock; count its statuses."""
    verdicts = pa.concat_tables([CHECKED.empty(), *(CHECKED.read(path) for path in files)]).combine_chunks()
    rows = verdicts.column("row").to_numpy()
    places = np.full(samples, -1)
    known = np.flatnonzero(rows >= 0)
    places[rows[known]] = known  # of several verdicts, the last
    first = 0
    for batch in uids:
        at = places[first : first + batch.num_rows]
        first += batch.num_rows
        taken = verdicts.take(pa.array(at, mask=at < 0))
        status = pc.fill_null(taken.column("status"), GONE)
        detail = pc.if_else(pa.array(at < 0), _MISSING, taken.column("detail"))
        statuses.update({each["values"]: each["counts"] for each in pc.value_counts(status).to_pylist()})
        yield REHYDRATED.table({"uid": batch.column("uid"), "status": status, "detail": detail})


class VerifyFile(FileTask[Source]):
    """Write what became of the images of a file, or of the pairs that fetch dropped.

    Args:
        index, sha256: folder of the lock's index, and the lock's checksum.
    """

    def __init__(self, index: str, sha256: str) -> None:
        self.index, self.sha256 = index, sha256

    def run(self, task: Task[Source], folder: Path, stats: TaskStats) -> list[Path]:
        path = checked(as_path(task.payload.path))
        index = read_index(self.index, self.sha256)
        if task.payload.step:
            drops = pq.read_table(path, columns=["url", "reason", "detail"])
            rows = index.rows(drops.column("url").to_pylist())
            judged = lru_cache(judge_drop)
            verdicts = list(map(judged, drops.column("reason").to_pylist(), drops.column("detail").to_pylist()))
        else:
            images = pq.read_table(path, columns=["url", *COMPARED])
            rows = index.rows(images.column("url").to_pylist())
            verdicts = [Verdict(GONE)] * len(rows)
            known = np.flatnonzero(rows >= 0)
            judged_images = judge_images(index.facts(rows[known]), facts_of(images)[known])
            for row, verdict in zip(known.tolist(), judged_images, strict=True):
                verdicts[row] = verdict
            stats.tick(len(rows))
        target = folder / "verdicts" / f"{task.name}.parquet"
        columns = {"row": rows, "status": [v.status for v in verdicts], "detail": [v.detail for v in verdicts]}
        CHECKED.write(target, CHECKED.table(columns))
        return [target]

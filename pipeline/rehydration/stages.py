"""The steps of a rehydration between fetch and shard: verify what was fetched, choose what refills, and join both."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.common.urls import url_hashes
from openwit.pipeline.execution.files import checked, file_entry
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job, StageManifest, StageResult
from openwit.pipeline.rehydration.locked import LockSettings, LockStage
from openwit.pipeline.rehydration.lockfile import load_lock, read_index
from openwit.pipeline.rehydration.refill import urls_of
from openwit.pipeline.rehydration.verdict import (
    ALIVE,
    CHANGED_PICTURE,
    GONE,
    HAS_OPTED_OUT,
    IS_GONE,
    NO_LONGER_DRAWN,
    NOT_TRIED,
    REASON_OF,
    Verdict,
    judge_drop,
    judge_image,
)
from openwit.pipeline.stages.base import IMAGES as IMAGES_KIND
from openwit.pipeline.stages.base import SELECTED as SELECTED_KIND
from openwit.pipeline.stages.base import SURVIVORS as SURVIVORS_KIND
from openwit.pipeline.stages.base import BuildContext, Inputs, Kind, Port, Stage
from openwit.pipeline.stages.select.dead import read_dead
from openwit.pipeline.stages.select.hash_uniform import pair_hashes
from openwit.pipeline.stages.sidecars import QUERY_COUNTS_FILE, REHYDRATED_FILE
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.settings import Settings
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.manifest import FunnelStep
from openwit.schemas.tables.candidates import DROPS, SELECTED
from openwit.schemas.tables.images import IMAGES, SURVIVORS
from openwit.schemas.tables.locks import REHYDRATED
from openwit.schemas.tables.queries import QUERY_COUNTS

_COMPARED = ("sha256", "pixels_hash", "phash", "fingerprint")
_SELECTED_ROWS = 4096
_CHECKED = Kind("rehydrated", "openwit.schemas.tables.locks:REHYDRATED", "what became of each sample of a lock")


@dataclass(frozen=True)
class Source:
    """A file of an earlier step, and the number of the step among several."""

    path: str
    step: int = 0


class Verify(LockStage):
    """Compare each image of a lock that was fetched again with what was locked."""

    name = "verify"
    version = 1
    summary = "compare each image of a lockfile that was fetched again with what was locked"
    inputs = (Port("images", IMAGES_KIND, "the images of the lock, fetched again"),)
    output = _CHECKED

    def execute(
        self,
        job: Job,  # noqa: ARG002
        settings: LockSettings,
        inputs: Inputs,
        folder: Path,
        build: BuildContext,  # noqa: ARG002
    ) -> StageResult:
        lock = load_lock(as_path(settings.lock))
        fetched = inputs.one("images")
        index = read_index(lock.path, lock.sha256)
        verdicts: list[Verdict | None] = [None] * lock.notes.samples
        for path in fetched.stage_manifest().paths(fetched.folder, "images"):
            table = pq.read_table(checked(path), columns=["url", *_COMPARED])
            for found in table.to_pylist():
                row = index.row(found["url"])
                if row is not None:
                    verdicts[row] = judge_image(index.facts(row), found)
        for path in fetched.stage_manifest().paths(fetched.folder, "drops"):
            for drop in DROPS.read(checked(path)).to_pylist():
                row = index.row(drop["url"])
                if row is not None:
                    verdicts[row] = judge_drop(drop["reason"], drop["detail"])
        missing = Verdict(GONE, "input_not_here: its bytes lay in an input file that is not here")
        known = [verdict or missing for verdict in verdicts]
        uids = lock.columns(["uid"]).column("uid")
        target = folder / REHYDRATED_FILE
        columns = {"uid": uids, "status": [v.status for v in known], "detail": [v.detail for v in known]}
        REHYDRATED.write(target, REHYDRATED.table(columns))
        result = StageResult()
        result.files.append(file_entry(folder, target))
        result.extra = {"statuses": dict(sorted(Counter(v.status for v in known).items()))}
        return result


class UntriedSettings(Settings):
    """Name the list of what was tried."""

    tried: str = Field(description="list of URLs that were asked for, and of pairs that need not be")


class Untried(Stage[UntriedSettings]):
    """Give the pairs of a selection that were not asked for yet to fetch."""

    name = "untried"
    version = 1
    settings = UntriedSettings
    summary = "give the pairs of a selection that were not asked for yet to fetch"
    inputs = (Port("selected", SELECTED_KIND, "the selection among the pairs that are left"),)
    output = SELECTED_KIND

    def recorded_settings(self, settings: UntriedSettings, build: BuildContext) -> dict[str, Any]:  # noqa: ARG002
        return {"tried": sha256_of(as_path(settings.tried))}

    def execute(
        self,
        job: Job,
        settings: UntriedSettings,
        inputs: Inputs,
        folder: Path,
        build: BuildContext,  # noqa: ARG002
    ) -> StageResult:
        selected = inputs.one("selected")
        files = selected.stage_manifest().paths(selected.folder, "selected")
        tasks = [Task(n, path.stem, Source(str(path))) for n, path in enumerate(files)]
        results = job.run(folder, tasks, "Choose pairs that refill", "pairs", KeepUntried(settings.tried))
        result = StageResult()
        result.add_results(results, [])
        result.extra = {"pairs": sum(row_result.counters.get("pairs", 0) for row_result in results)}
        return result


class KeepUntried(FileTask[Source]):
    """Write the pairs of a file of SELECTED that a list does not name."""

    def __init__(self, tried: str) -> None:
        self.tried = tried

    def run(self, task: Task[Source], folder: Path, stats: TaskStats) -> list[Path]:
        table = SELECTED.read(checked(as_path(task.payload.path)))
        pairs = pair_hashes(table.column("pair_id").combine_chunks())
        tried = read_dead(self.tried).mask(url_hashes(table.column("url").to_pylist()), pairs)
        left = table.filter(pa.array(~tried))
        target = folder / "selected" / f"{task.name}.parquet"
        SELECTED.write(target, left, row_group_size=_SELECTED_ROWS)
        stats.counters["pairs"] += left.num_rows
        return [target]


class Rehydrate(LockStage):
    """Join the images of a lock that are alive with those that refill its queries."""

    name = "rehydrate"
    version = 2
    summary = "join the images of a lockfile that are alive with those that refill its queries"
    inputs = (
        Port("images", IMAGES_KIND, "fetched images: of the lock, then of each round of refilling", several=True),
        Port("checked", _CHECKED, "what became of the samples of the lock"),
        Port("selected", SELECTED_KIND, "the selection among all pairs that are alive", optional=True),
        Port("untried", SELECTED_KIND, "its pairs that the last round did not ask for", optional=True),
    )
    output = SURVIVORS_KIND

    def reasons(self) -> Sequence[Reason]:
        return (CHANGED_PICTURE, IS_GONE, HAS_OPTED_OUT, NOT_TRIED, NO_LONGER_DRAWN)

    def history(self, inputs: Inputs) -> list[StageManifest]:
        first, *later = [upstream.stage_manifest() for upstream in inputs.several("images")]
        refill = [m.model_copy(update={"history": [], "step": f"refill-{n}-fetch"}) for n, m in enumerate(later, 1)]
        return [first, *refill]

    def execute(
        self,
        job: Job,
        settings: LockSettings,
        inputs: Inputs,
        folder: Path,
        build: BuildContext,  # noqa: ARG002
    ) -> StageResult:
        lock = load_lock(as_path(settings.lock))
        final = next((u for u in inputs.several("selected")), None)
        selected = () if final is None else tuple(map(str, final.stage_manifest().paths(final.folder, "selected")))
        tasks: list[Task[Source]] = []
        for step, upstream in enumerate(inputs.several("images")):
            for path in upstream.stage_manifest().paths(upstream.folder, "images"):
                tasks.append(Task(len(tasks), f"{step:02d}-{path.stem}", Source(str(path), step)))
        work = JoinImages(lock.path, lock.sha256, selected)
        results = job.run(folder, tasks, "Join images", "images", work)
        result = StageResult()
        result.add_results(results, [])
        statuses = inputs.one("checked").stage_manifest().extra["statuses"]
        self._count(result, statuses, inputs, results)
        source = final.folder if final is not None else inputs.several("images")[0].folder
        if (source / QUERY_COUNTS_FILE).exists():
            _write_counts(source, folder, result)
        copy = folder / REHYDRATED_FILE
        REHYDRATED.write(copy, REHYDRATED.read(checked(inputs.one("checked").folder / REHYDRATED_FILE)))
        result.files.append(file_entry(folder, copy))
        result.extra = {"images": ".", "statuses": statuses, "cap": lock.notes.cap}
        return result

    @staticmethod
    def _count(result: StageResult, statuses: dict[str, int], inputs: Inputs, results: Sequence[Any]) -> None:
        """Add the funnel: samples of the lock with what became of them, then images that refill."""
        alive = sum(n for status, n in statuses.items() if status in ALIVE)
        reasons = {str(REASON_OF[status]): n for status, n in statuses.items() if status not in ALIVE}
        total = sum(statuses.values())
        result.funnel.append(
            FunnelStep(stage="rehydrate", unit="samples", rows_in=total, rows_out=alive, reasons=reasons)
        )
        later = inputs.several("images")[1:]
        taken = sum(r.counters.get("refilled", 0) for r in results)
        left = [path for u in inputs.several("untried") for path in u.stage_manifest().paths(u.folder, "selected")]
        untried = len(urls_of(left))
        result.counters["untried"] = untried
        if later or untried:
            funnels = [s for u in later for s in u.stage_manifest().funnel if s.unit == "images"]
            lost: Counter[str] = Counter()
            for step in funnels:
                lost.update(step.reasons)
            asked = sum(step.rows_in for step in funnels)
            lost[str(NO_LONGER_DRAWN)] += asked - taken - lost.total()
            lost[str(NOT_TRIED)] += untried
            reasons = {reason: lost[reason] for reason in sorted(lost) if lost[reason]}
            result.funnel.append(
                FunnelStep(stage="refill", unit="images", rows_in=asked + untried, rows_out=taken, reasons=reasons)
            )
        result.counters["refilled"] = taken
        result.counters["pairs"] = sum(r.counters.get("pairs", 0) for r in results)


class Selection:
    """The pairs of the final selection, by pair and by URL, in memory."""

    def __init__(self, files: tuple[str, ...]) -> None:
        tables = [SELECTED.read(as_path(path)) for path in files]
        self.table = pa.concat_tables([SELECTED.empty(), *tables]).combine_chunks()
        self.row_of = {pair: row for row, pair in enumerate(self.table.column("pair_id").to_pylist())}
        self.rows_at: dict[int, list[int]] = {}
        for row, key in enumerate(url_hashes(self.table.column("url").to_pylist()).tolist()):
            self.rows_at.setdefault(key, []).append(row)

    def pair(self, row: int) -> dict[str, Any]:
        """Return a pair as IMAGES holds it."""
        values = self.table.slice(row, 1).to_pylist()[0]
        return {field.name: values.get(field.name) for field in IMAGES.arrow.field("pairs").type.value_type}


@lru_cache(maxsize=1)
def _selection(files: tuple[str, ...]) -> Selection:
    return Selection(files)


class JoinImages(FileTask[Source]):
    """Write the images of a file that are alive, with the texts that the final selection gives them.

    Args:
        lock, sha256: path and checksum of the lock.
        selected: files of the final selection; none, and every image keeps the texts of the lock.
    """

    def __init__(self, lock: str, sha256: str, selected: tuple[str, ...]) -> None:
        self.lock = lock
        self.sha256 = sha256
        self.selected = selected

    def run(self, task: Task[Source], folder: Path, stats: TaskStats) -> list[Path]:
        images = folder / "images" / f"{task.name}.parquet"
        survivors = folder / "survivors" / f"{task.name}.parquet"
        stats.counters["refilled"] += 0
        kept: list[pa.Table] = []
        with IMAGES.writing(images, 1024) as write:
            for batch in IMAGES.read_batches(checked(as_path(task.payload.path))):
                joined = self._join(batch, task.payload.step)
                if joined.num_rows:
                    write(joined)
                    kept.append(joined.drop_columns(["image"]))
                    stats.counters["pairs"] += pc.sum(pc.list_value_length(joined.column("pairs"))).as_py()
                    stats.counters["refilled"] += joined.num_rows if task.payload.step else 0
        SURVIVORS.write(survivors, list(_survivors(kept)) or SURVIVORS.empty())
        return [images, survivors]

    def _join(self, batch: pa.Table, step: int) -> pa.Table:
        index = read_index(self.lock, self.sha256)
        urls = batch.column("url").to_pylist()
        if step == 0:
            facts = batch.select(list(_COMPARED)).to_pylist()
            alive = [self._is_alive(index, url, found) for url, found in zip(urls, facts, strict=True)]
            batch = batch.filter(pa.array(alive, pa.bool_()))
        if not self.selected:
            return batch
        final = _selection(self.selected)
        hashes = url_hashes(batch.column("url").to_pylist()).tolist()
        pairs = [
            self._pairs(final, held, key) for held, key in zip(batch.column("pairs").to_pylist(), hashes, strict=True)
        ]
        at = batch.schema.get_field_index("pairs")
        batch = batch.set_column(at, batch.schema.field("pairs"), pa.array(pairs, batch.schema.field("pairs").type))
        return batch.filter(pa.array([bool(found) for found in pairs], pa.bool_()))

    @staticmethod
    def _is_alive(index: Any, url: str, found: dict[str, Any]) -> bool:
        row = index.row(url)
        return row is not None and judge_image(index.facts(row), found).status in ALIVE

    @staticmethod
    def _pairs(final: Selection, held: list[dict[str, Any]], key: int) -> list[dict[str, Any]]:
        """Return the texts of an image that the selection holds: first those it has, then those it gains."""
        known = {pair["pair_id"] for pair in held}
        left = [{**pair, **_drawn(final, pair["pair_id"])} for pair in held if pair["pair_id"] in final.row_of]
        gained = [final.pair(row) for row in final.rows_at.get(key, ())]
        new = [pair for pair in gained if pair["pair_id"] not in known]
        return left + sorted(new, key=lambda pair: (pair["priority"], pair["pair_id"]))


def _drawn(final: Selection, pair_id: bytes) -> dict[str, Any]:
    row = final.row_of[pair_id]
    return {name: final.table.column(name)[row].as_py() for name in ("query_ids", "drawn_by", "priority")}


def _survivors(kept: Sequence[pa.Table]) -> Iterator[pa.Table]:
    row = 0
    for table in kept:
        rows = np.arange(row, row + table.num_rows, dtype=np.int64)
        zeros = pa.array(np.zeros(table.num_rows, np.int32))
        row += table.num_rows
        yield table.append_column("duplicates", zeros).append_column("source_row", pa.array(rows))


def _write_counts(source: Path, folder: Path, result: StageResult) -> None:
    """Write the queries with what the joined images hold of each."""
    counts = QUERY_COUNTS.read(checked(source / QUERY_COUNTS_FILE))
    sums = {"query_ids": np.zeros(counts.num_rows, np.int64), "drawn_by": np.zeros(counts.num_rows, np.int64)}
    for entry in result.files:
        if entry.path.startswith("survivors/"):
            pairs = SURVIVORS.read(folder / entry.path).column("pairs").combine_chunks().flatten()
            for name, total in sums.items():
                ids = pc.list_flatten(pc.struct_field(pairs, name)).to_numpy()
                total += np.bincount(ids, minlength=len(total))
    columns = {name: counts.column(name) for name in ("query_id", "query", "source", "pool", "threshold")}
    target = folder / QUERY_COUNTS_FILE
    QUERY_COUNTS.write(target, QUERY_COUNTS.table({**columns, "drawn": sums["drawn_by"], "kept": sums["query_ids"]}))
    result.files.append(file_entry(folder, target))

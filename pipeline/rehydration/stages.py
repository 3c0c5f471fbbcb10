"""The steps of a rehydration between verify and shard: choose what refills, and join it with what is alive."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.common.urls import url_hashes
from openwit.pipeline.execution.files import checked, file_entry
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job, StageManifest, StageResult
from openwit.pipeline.rehydration.locked import LockSettings, LockStage
from openwit.pipeline.rehydration.refill import urls_of
from openwit.pipeline.rehydration.selection_index import read_selection, write_selection
from openwit.pipeline.rehydration.verdict import (
    ALIVE,
    CHANGED_PICTURE,
    HAS_OPTED_OUT,
    IS_GONE,
    NO_LONGER_DRAWN,
    NOT_TRIED,
    REASON_OF,
)
from openwit.pipeline.rehydration.verify import CHECKED_KIND, Source, alive_rows, verdict_file
from openwit.pipeline.stages.base import IMAGES as IMAGES_KIND
from openwit.pipeline.stages.base import SELECTED as SELECTED_KIND
from openwit.pipeline.stages.base import SURVIVORS as SURVIVORS_KIND
from openwit.pipeline.stages.base import BuildContext, Inputs, Port, Stage
from openwit.pipeline.stages.select.dead import read_dead
from openwit.pipeline.stages.select.hash_uniform import pair_hashes
from openwit.pipeline.stages.sidecars import QUERY_COUNTS_FILE, REHYDRATED_FILE
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.settings import Settings
from openwit.schemas.common.storage.reading import remove_tree
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.manifest import FunnelStep
from openwit.schemas.tables.candidates import SELECTED
from openwit.schemas.tables.images import IMAGES, SURVIVORS
from openwit.schemas.tables.locks import REHYDRATED
from openwit.schemas.tables.queries import QUERY_COUNTS

_SELECTED_ROWS = 4096
_SELECTION = "selection"


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
        Port("checked", CHECKED_KIND, "what became of the samples of the lock"),
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
        lock = self.lock(settings)
        final = next((u for u in inputs.several("selected")), None)
        selection = folder / _SELECTION
        if final is not None:
            selection.mkdir(parents=True, exist_ok=True)
            write_selection(final.stage_manifest().paths(final.folder, "selected"), selection)
        verdicts = inputs.one("checked").folder
        tasks: list[Task[Source]] = []
        for step, upstream in enumerate(inputs.several("images")):
            for path in upstream.stage_manifest().paths(upstream.folder, "images"):
                held = None if step else str(verdict_file(verdicts, IMAGES_KIND.name, path.stem))
                tasks.append(Task(len(tasks), f"{step:02d}-{path.stem}", Source(str(path), step, held)))
        work = JoinImages(None if final is None else str(selection))
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
        remove_tree(selection)
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


class JoinImages(FileTask[Source]):
    """Write the images of a file that are alive, with the texts that the final selection gives them.

    Args:
        selection: folder of the final selection; None, and every image keeps the texts of the lock.
    """

    def __init__(self, selection: str | None) -> None:
        self.selection = selection
        self.token = uuid.uuid4().hex

    def run(self, task: Task[Source], folder: Path, stats: TaskStats) -> list[Path]:
        images = folder / "images" / f"{task.name}.parquet"
        survivors = folder / "survivors" / f"{task.name}.parquet"
        stats.counters["refilled"] += 0
        kept: list[pa.Table] = []
        alive = None if task.payload.verdicts is None else alive_rows(as_path(task.payload.verdicts))
        row = 0
        with IMAGES.writing(images, 1024) as write:
            for batch in IMAGES.read_batches(checked(as_path(task.payload.path))):
                living = batch if alive is None else batch.filter(alive.slice(row, batch.num_rows))
                row += batch.num_rows
                joined = self._join(living)
                if joined.num_rows:
                    write(joined)
                    kept.append(joined.drop_columns(["image"]))
                    stats.counters["pairs"] += pc.sum(pc.list_value_length(joined.column("pairs"))).as_py()
                    stats.counters["refilled"] += joined.num_rows if task.payload.step else 0
        SURVIVORS.write(survivors, list(_survivors(kept)) or SURVIVORS.empty())
        return [images, survivors]

    def _join(self, batch: pa.Table) -> pa.Table:
        if self.selection is None:
            return batch
        final = read_selection(self.selection, self.token)
        pairs = final.joined(batch.column("pairs").to_pylist(), batch.column("url").to_pylist())
        at = batch.schema.get_field_index("pairs")
        batch = batch.set_column(at, batch.schema.field("pairs"), pa.array(pairs, batch.schema.field("pairs").type))
        return batch.filter(pa.array([bool(found) for found in pairs], pa.bool_()))


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

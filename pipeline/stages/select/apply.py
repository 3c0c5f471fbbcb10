"""Selection, pass 4: keep the drawn pairs and record a drop reason for every other."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from openwit.pipeline.common.host_buckets import host_bucket
from openwit.pipeline.execution.files import checked
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.stages.select import SelectPaths
from openwit.pipeline.stages.select.balance import ragged
from openwit.pipeline.stages.select.draw import DrawResult, keep_drawn
from openwit.pipeline.stages.select.layout import MatchedDraws, draws_table, query_offsets
from openwit.pipeline.stages.select.reasons import NOT_DRAWN
from openwit.pipeline.stages.select.winners import VERDICT_REASONS
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.candidates import CANDIDATES, DROPS, MATCHES, SELECTED, VERDICTS
from openwit.schemas.tables.queries import QUERY_DRAWS

STEP = "select/pairs"
# Small enough that a reader of a few buckets reads little else, large enough to be written fast.
_ROW_GROUP = 4096


@dataclass(frozen=True)
class MatchedFile:
    """A candidates file, and the name of the task that matched it."""

    candidates: str
    matched_by: str


class ApplyThresholds(FileTask[MatchedFile]):
    """Apply the thresholds to one candidates file: write the selected pairs, and the others with drop reasons."""

    def __init__(self, source: MatchedDraws) -> None:
        self.source = source
        self._thresholds = np.zeros(0)

    def setup(self) -> None:
        self._thresholds = np.load(cached(SelectPaths(as_path(self.source.folder)).thresholds))

    def run(self, task: Task[MatchedFile], folder: Path, stats: TaskStats) -> list[Path]:
        matched_by = task.payload.matched_by
        candidates = CANDIDATES.read(checked(as_path(task.payload.candidates)))
        paths = SelectPaths(folder)
        matches = MATCHES.read(paths.matches(matched_by))
        verdict = VERDICTS.read(paths.verdicts(matched_by)).column("verdict").to_numpy()
        draws = self.source.draws(matched_by)
        result = keep_drawn(draws.rows, draws.ids, u=draws.u, thresholds=self._thresholds, n=candidates.num_rows)
        stats.enter(STEP, candidates.num_rows)
        stats.leave(STEP, int(result.kept.sum()))
        reasons = np.full(len(verdict), NOT_DRAWN, object)
        for code, reason in VERDICT_REASONS.items():
            reasons[verdict == code] = reason
        for reason, n in Counter(reasons[~result.kept].tolist()).items():
            stats.drop(STEP, reason, n)
        files = [
            self._write_selected(folder, task.name, candidates, matches, result),
            self._write_drops(folder, task.name, candidates, matches, result, reasons),
            self._write_draws(folder, task.name, matches, result),
        ]
        stats.tick(candidates.num_rows, 1.0)
        return files

    @staticmethod
    def _write_selected(folder: Path, name: str, candidates: pa.Table, matches: pa.Table, result: DrawResult) -> Path:
        kept = np.flatnonzero(result.kept)
        table = candidates.take(pa.array(kept))
        names = ("url", "has_bytes", "archive", "record_offset")
        rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
        buckets = [host_bucket(url, stored, archive, offset) for url, stored, archive, offset in rows]
        table = table.append_column("query_ids", matches.column("query_ids").take(pa.array(kept)))
        table = table.append_column("drawn_by", result.drawn_by.take(pa.array(kept)))
        table = table.append_column("priority", pa.array(result.priority[kept]))
        table = table.append_column("host_bucket", pa.array(buckets, pa.int32()))
        target = SelectPaths(folder).selected / f"{name}.parquet"
        order = np.argsort(np.array(buckets, np.int32), kind="stable")
        SELECTED.write(target, table.take(pa.array(order)), row_group_size=_ROW_GROUP)
        return target

    def _write_drops(
        self, folder: Path, name: str, candidates: pa.Table, matches: pa.Table, result: DrawResult, reasons: np.ndarray
    ) -> Path:
        lost = np.flatnonzero(~result.kept)
        table = candidates.select(["pair_id", "url", "text"]).take(pa.array(lost))
        matched = np.diff(query_offsets(matches))[lost].tolist()
        nearest = zip(matched, result.nearest[lost].tolist(), result.priority[lost].tolist(), strict=True)
        details = [_near_miss(n, self.source.text(q), p) if q >= 0 else None for n, q, p in nearest]
        target = SelectPaths(folder).drops / f"{name}.parquet"
        columns = {name: table.column(name) for name in ("pair_id", "url", "text")}
        DROPS.write(target, DROPS.table({**columns, "reason": reasons[lost].tolist(), "detail": details}))
        return target

    @staticmethod
    def _write_draws(folder: Path, name: str, matches: pa.Table, result: DrawResult) -> Path:
        rows, ids = ragged(matches.column("query_ids").combine_chunks())
        target = SelectPaths(folder).draws(name)
        QUERY_DRAWS.write(target, draws_table(rows, ids, result))
        return target


def _near_miss(matched: int, query: str, priority: float) -> str:
    queries = "query" if matched == 1 else "queries"
    return f"matched {matched:,} {queries}, the nearest {query!r} at {priority:.3g} times its threshold"

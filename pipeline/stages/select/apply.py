"""Selection, pass 4: keep the drawn pairs, or all, and record a drop reason for every other."""

from abc import abstractmethod
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
from openwit.pipeline.stages.select.hash_uniform import pair_hashes, uniform
from openwit.pipeline.stages.select.layout import MatchedDraws, draws_table, query_offsets
from openwit.pipeline.stages.select.match import no_matches
from openwit.pipeline.stages.select.reasons import NOT_DRAWN
from openwit.pipeline.stages.select.winners import KEPT, VERDICT_REASONS
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


class KeepPairs(FileTask[MatchedFile]):
    """Judge the pairs of one candidates file: write the selected pairs, and the others with drop reasons."""

    @abstractmethod
    def judge(self, name: str, matches: pa.Table, verdict: np.ndarray) -> DrawResult:
        """Return which rows of a file are kept.

        Args:
            name: of the task that matched it.
            matches: of MATCHES, N rows.
            verdict: int8 (N,), see VERDICTS.
        """

    def query(self, number: int) -> str:
        """Return the text of a query."""
        raise NotImplementedError

    def run(self, task: Task[MatchedFile], folder: Path, stats: TaskStats) -> list[Path]:
        matched_by = task.payload.matched_by
        candidates = CANDIDATES.read(checked(as_path(task.payload.candidates)))
        paths = SelectPaths(folder)
        matches = MATCHES.read(paths.matches(matched_by))
        verdict = VERDICTS.read(paths.verdicts(matched_by)).column("verdict").to_numpy()
        result = self.judge(matched_by, matches, verdict)
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
        details = [_near_miss(n, self.query(q), p) if q >= 0 else None for n, q, p in nearest]
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


class ApplyThresholds(KeepPairs):
    """Keep the pairs that a query drew."""

    def __init__(self, source: MatchedDraws) -> None:
        self.source = source
        self._thresholds = np.zeros(0)

    def setup(self) -> None:
        self._thresholds = np.load(cached(SelectPaths(as_path(self.source.folder)).thresholds))

    def judge(self, name: str, matches: pa.Table, verdict: np.ndarray) -> DrawResult:  # noqa: ARG002
        draws = self.source.draws(name)
        return keep_drawn(draws.rows, draws.ids, u=draws.u, thresholds=self._thresholds, n=len(verdict))

    def query(self, number: int) -> str:
        return self.source.text(number)


class KeepAll(KeepPairs):
    """Keep every pair of the pool, drawn by no query; its priority is its hash.

    Args:
        seed: of the hash.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def judge(self, name: str, matches: pa.Table, verdict: np.ndarray) -> DrawResult:  # noqa: ARG002
        rows = len(verdict)
        pairs = pair_hashes(matches.column("pair_id").combine_chunks())
        priority = uniform(pairs, np.zeros(rows, np.uint64), seed=self.seed)
        return DrawResult(verdict == KEPT, no_matches(rows), priority, np.full(rows, -1))


def _near_miss(matched: int, query: str, priority: float) -> str:
    queries = "query" if matched == 1 else "queries"
    return f"matched {matched:,} {queries}, the nearest {query!r} at {priority:.3g} times its threshold"

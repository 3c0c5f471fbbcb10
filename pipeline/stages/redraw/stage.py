"""Redraw: draw again, with the cap itself, among the pairs that download and deduplication kept.

The first draw took `cap x oversample` pairs per query. The same u(pair, query) is used again, so that this draw equals
the one that would have been made had the lost pairs never been in the pool - unless a query lost more than the
surplus; such queries are counted and reported.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.execution.files import checked, file_entry
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job, StageResult
from openwit.pipeline.stages.base import Inputs
from openwit.pipeline.stages.dedup import DedupPaths
from openwit.pipeline.stages.redraw import RedrawPaths
from openwit.pipeline.stages.redraw.reasons import NO_TEXT_LEFT, NOT_DRAWN_AGAIN
from openwit.pipeline.stages.select.balance import ragged
from openwit.pipeline.stages.select.draw import DrawResult, keep_drawn
from openwit.pipeline.stages.select.hash_uniform import pair_hashes
from openwit.pipeline.stages.select.layout import DrawSource, draws_table, sum_draws
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.select.thresholds import find_thresholds
from openwit.pipeline.stages.sidecars import copy_examples
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.candidates import DROPS
from openwit.schemas.tables.images import SURVIVORS
from openwit.schemas.tables.queries import QUERY_COUNTS, QUERY_DRAWS

_log = logging.getLogger(__name__)

IMAGES_STEP, PAIRS_STEP = "redraw/images", "redraw/pairs"


def draw_again(job: Job, inputs: Inputs, folder: Path) -> StageResult:
    """Write the images that keep a pair, and the drops; how to draw is in the history of the images.

    Raises:
        DataError: the history has no selection.
    """
    deduplicated, upstream = inputs.one("survivors").folder, inputs.one("survivors").stage_manifest()
    drawn = upstream.find("select")
    if drawn is None or "cap" not in drawn.extra:
        raise DataError(f"{deduplicated} knows of no selection that drew pairs: there is nothing to draw again")
    settings, cap = SelectSettings.model_validate(drawn.settings), int(drawn.extra["cap"])
    paths, listed = RedrawPaths(folder), DedupPaths(deduplicated).query_counts
    before = QUERY_COUNTS.read(checked(listed))
    texts = before.column("query").to_pylist()
    files = upstream.paths(deduplicated, "survivors")
    source = SurvivorDraws(DedupPaths(deduplicated).survivors, listed, settings.seed)
    counting = [Task(n, f"count-{path.stem}", path.stem) for n, path in enumerate(files)]
    counted = job.run(folder, counting, "Count surviving pairs", "pairs", CountPairs(source))
    _, pool = sum_draws(folder, counted, len(texts))
    tasks = [Task(n, path.stem, SurvivorsFile(str(path))) for n, path in enumerate(files)]
    thresholds = find_thresholds(job, settings, folder, tasks, source, pool, cap)
    with atomic_path(paths.thresholds) as path, path.open("wb") as file:
        np.save(file, thresholds)
    results = job.run(folder, tasks, "Keep what is drawn again", "images", KeepAgain(source))
    result = StageResult()
    result.add_results(results, [IMAGES_STEP, PAIRS_STEP])
    columns = {name: before.column(name) for name in ("query_id", "query", "source", "pool")}
    left_drawn, left_kept = sum_draws(folder, results, len(texts))
    sums = {"drawn": left_drawn, "kept": left_kept, "threshold": np.minimum(thresholds, 1.0)}
    table = QUERY_COUNTS.table({**columns, **sums})
    QUERY_COUNTS.write(paths.query_counts, table)
    result.files.append(file_entry(folder, paths.query_counts))
    result.files += copy_examples(deduplicated, folder)
    images = os.path.relpath(deduplicated / upstream.extra["images"], folder)
    result.extra = {"cap": cap, "images": images, "queries_short": _short(before, thresholds)}
    if result.extra["queries_short"]:
        _log.warning(
            "%s queries lost more than their surplus: pairs that the first draw did not take might have taken the "
            "places. A larger select.oversample avoids it.",
            f"{result.extra['queries_short']:,}",
        )
    return result


def _short(before: pa.Table, thresholds: np.ndarray) -> int:
    """Count queries that now draw above the first threshold: some pairs that they would draw were not downloaded."""
    limited = before.column("drawn").to_numpy() < before.column("pool").to_numpy()
    return int((limited & (thresholds > before.column("threshold").to_numpy())).sum())


@dataclass(frozen=True)
class SurvivorsFile:
    """A file of SURVIVORS."""

    survivors: str


class SurvivorDraws(DrawSource):
    """Read draws among the pairs of surviving images.

    Args:
        survivors: folder with the files of `SURVIVORS`.
        queries: of `QUERY_COUNTS`.
    """

    def __init__(self, survivors: Path, queries: Path, seed: int) -> None:
        super().__init__(queries, seed)
        self.survivors = str(survivors)

    def pairs(self, file: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images = SURVIVORS.read(as_path(self.survivors) / f"{file}.parquet")
        pairs = images.column("pairs").combine_chunks().flatten()
        rows, ids = ragged(pc.struct_field(pairs, "query_ids"))
        return rows, ids, pair_hashes(pc.struct_field(pairs, "pair_id"))


class CountPairs(FileTask[str]):
    """Count the pairs of one survivors file that each query matches."""

    def __init__(self, source: SurvivorDraws) -> None:
        self.source = source

    def run(self, task: Task[str], folder: Path, stats: TaskStats) -> list[Path]:
        checked(as_path(self.source.survivors) / f"{task.payload}.parquet")
        _, ids, pairs = self.source.pairs(task.payload)
        found, counts = np.unique(ids, return_counts=True)
        draws = QUERY_DRAWS.table({"query_id": found.astype(np.int32), "drawn": np.zeros_like(counts), "kept": counts})
        target = RedrawPaths(folder).draws(task.name)
        QUERY_DRAWS.write(target, draws)
        stats.tick(len(pairs), 1.0)
        return [target]


class KeepAgain(FileTask[SurvivorsFile]):
    """Apply the new thresholds to one survivors file."""

    def __init__(self, source: SurvivorDraws) -> None:
        self.source = source
        self._thresholds: np.ndarray | None = None

    def run(self, task: Task[SurvivorsFile], folder: Path, stats: TaskStats) -> list[Path]:
        paths = RedrawPaths(folder)
        if self._thresholds is None:
            self._thresholds = np.load(cached(paths.thresholds))
        checked(as_path(task.payload.survivors))
        draws = self.source.draws(task.name)
        result = keep_drawn(draws.rows, draws.ids, u=draws.u, thresholds=self._thresholds, n=draws.pairs)
        kept, drops = self._apply(task, result, stats)
        written = [
            paths.survivors / f"{task.name}.parquet",
            paths.drops / f"{task.name}.parquet",
            paths.draws(task.name),
        ]
        SURVIVORS.write(written[0], pa.Table.from_pylist(kept, schema=SURVIVORS.arrow))
        DROPS.write(written[1], pa.Table.from_pylist(drops, schema=DROPS.arrow))
        QUERY_DRAWS.write(written[2], draws_table(draws.rows, draws.ids, result))
        return written

    @staticmethod
    def _apply(
        task: Task[SurvivorsFile], result: DrawResult, stats: TaskStats
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the images that keep a pair, with their pairs, and the dropped pairs."""
        kept: list[dict[str, Any]] = []
        drops: list[dict[str, Any]] = []
        drawn_by = result.drawn_by.to_pylist()
        row = 0
        for image in _images(as_path(task.payload.survivors)):
            left = []
            for pair in image["pairs"]:
                if result.kept[row]:
                    left.append({**pair, "drawn_by": drawn_by[row], "priority": float(result.priority[row])})
                else:
                    detail = f"at {result.priority[row]:.3g} times the nearest query's threshold"
                    drops.append(_drop(image["url"], pair, detail))
                row += 1
            stats.enter(PAIRS_STEP, len(image["pairs"]))
            stats.leave(PAIRS_STEP, len(left))
            stats.drop(PAIRS_STEP, NOT_DRAWN_AGAIN, len(image["pairs"]) - len(left))
            stats.enter(IMAGES_STEP)
            if left:
                stats.leave(IMAGES_STEP)
                order = sorted(left, key=lambda pair: (pair["priority"], pair["pair_id"]))
                kept.append({**image, "pairs": order})
            else:
                stats.drop(IMAGES_STEP, NO_TEXT_LEFT)
        return kept, drops


def _images(path: Path) -> Iterator[dict[str, Any]]:
    for batch in SURVIVORS.read_batches(path):
        yield from batch.to_pylist()


def _drop(url: str, pair: dict[str, Any], detail: str) -> dict[str, Any]:
    return {"pair_id": pair["pair_id"], "url": url, "text": pair["text"], "reason": NOT_DRAWN_AGAIN, "detail": detail}

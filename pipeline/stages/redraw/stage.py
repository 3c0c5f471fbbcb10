"""Redraw: the draw once more, with the cap itself, among the pairs that outlived download and deduplication.

The first draw took `cap x oversample` pairs a query. The same u(pair, query) serves again, so that this draw is the
one that would have been made had the lost pairs never been in the pool - unless a query lost more than the surplus;
such queries are counted and said.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job, StageManifest, StageRecord, StageResult, run_stage, stage_input
from openwit.pipeline.stages.select.balance import ragged
from openwit.pipeline.stages.select.draw import Kept, keep_drawn
from openwit.pipeline.stages.select.hash_uniform import query_hashes
from openwit.pipeline.stages.select.layout import draws_table, matches_path, pool_draws, sum_draws, verdicts_path
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.select.thresholds import find_thresholds
from openwit.pipeline.stages.sidecars import QUERY_COUNTS_FILE, carry_examples
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.tables.candidates import DROPS, MATCHES, VERDICTS
from openwit.schemas.tables.images import SURVIVORS
from openwit.schemas.tables.queries import QUERY_COUNTS, QUERY_DRAWS

_log = logging.getLogger(__name__)

NAME = "redraw"
VERSION = 1
IMAGES_STEP, PAIRS_STEP = "redraw/images", "redraw/pairs"
NOT_DRAWN, NO_TEXT_LEFT = "not_drawn_again", "no_text_left"


def run(job: Job, deduplicated: Path, folder: Path) -> tuple[StageManifest, bool]:
    """Runs the stage on a finished dedup folder; how to draw stands in its history."""
    upstream = StageManifest.load(deduplicated, "dedup")
    drawn = next((record for record in upstream.history if record.stage == "select"), None)
    if drawn is None or "cap" not in drawn.extra:
        raise OpenWITError(f"{deduplicated} knows of no selection: there is nothing to draw again")
    return run_stage(
        job,
        folder,
        NAME,
        VERSION,
        {},
        {"dedup": stage_input(deduplicated)},
        lambda: _execute(job, drawn, upstream, deduplicated, folder),
        [upstream],
    )


def _execute(job: Job, drawn: StageRecord, upstream: StageManifest, deduplicated: Path, folder: Path) -> StageResult:
    settings, cap = SelectSettings.model_validate(drawn.settings), int(drawn.extra["cap"])
    before = QUERY_COUNTS.read(deduplicated / QUERY_COUNTS_FILE)
    texts = before.column("query").to_pylist()
    files = upstream.paths(deduplicated, "survivors")
    listing = [Task(n, f"match-{path.stem}", SurvivorsFile(str(path))) for n, path in enumerate(files)]
    listed = job.run(folder, listing, "List surviving pairs", "pairs", ListPairs())
    _, pool = sum_draws(folder, listed, len(texts))
    thresholds = find_thresholds(job, settings, folder, listing, pool, texts, cap)
    with atomic_path(folder / "thresholds.npy") as path, path.open("wb") as file:
        np.save(file, thresholds)
    tasks = [
        Task(n, path.stem, ListedFile(str(path), task.name))
        for n, (path, task) in enumerate(zip(files, listing, strict=True))
    ]
    work = KeepAgain(str(deduplicated / QUERY_COUNTS_FILE), str(folder / "thresholds.npy"), settings.seed)
    results = job.run(folder, tasks, "Keep what is drawn again", "images", work)
    result = StageResult()
    result.add_results(results, [IMAGES_STEP, PAIRS_STEP])
    columns = {name: before.column(name) for name in ("query_id", "query", "source", "pool")}
    left_drawn, left_kept = sum_draws(folder, results, len(texts))
    sums = {"drawn": left_drawn, "kept": left_kept, "threshold": np.minimum(thresholds, 1.0)}
    table = QUERY_COUNTS.table({**columns, **sums})
    QUERY_COUNTS.write(folder / QUERY_COUNTS_FILE, table)
    result.files.append(file_entry(folder, folder / QUERY_COUNTS_FILE))
    result.files += carry_examples(deduplicated, folder)
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
    """Queries that now draw above the first draw's threshold: pairs they would take were not brought along."""
    limited = before.column("drawn").to_numpy() < before.column("pool").to_numpy()
    return int((limited & (thresholds > before.column("threshold").to_numpy())).sum())


@dataclass(frozen=True)
class SurvivorsFile:
    """A file of SURVIVORS."""

    survivors: str


@dataclass(frozen=True)
class ListedFile:
    """A file of SURVIVORS, and the name of the task that listed its pairs."""

    survivors: str
    listed_by: str


class ListPairs(FileTask[SurvivorsFile]):
    """The pairs of one survivors file in the form that finding thresholds reads."""

    def run(self, task: Task[SurvivorsFile], folder: Path, stats: TaskStats) -> list[Path]:
        pairs = [pair for image in _images(Path(task.payload.survivors)) for pair in image["pairs"]]
        n = len(pairs)
        matches = MATCHES.table(
            {
                "pair_id": pa.array([pair["pair_id"] for pair in pairs], pa.binary(16)),
                "query_ids": pa.array([pair["query_ids"] for pair in pairs], pa.list_(pa.int32())),
                **{name: np.zeros(n, np.uint64) for name in ("url_hash", "tie", "words_hash")},
                "text_length": np.zeros(n, np.int32),
            }
        )
        MATCHES.write(matches_path(folder, task.name), matches)
        VERDICTS.write(verdicts_path(folder, task.name), VERDICTS.table({"verdict": np.zeros(n, np.int8)}))
        _, ids = ragged(matches.column("query_ids").combine_chunks())
        found, counts = np.unique(ids, return_counts=True)
        draws = QUERY_DRAWS.table({"query_id": found.astype(np.int32), "drawn": np.zeros_like(counts), "kept": counts})
        QUERY_DRAWS.write(folder / "draws" / f"{task.name}.parquet", draws)
        stats.tick(n, 1.0)
        return [
            matches_path(folder, task.name),
            verdicts_path(folder, task.name),
            folder / "draws" / f"{task.name}.parquet",
        ]


class KeepAgain(FileTask[ListedFile]):
    """Applies the new thresholds to one survivors file."""

    def __init__(self, queries: str, thresholds: str, seed: int) -> None:
        self.queries = queries
        self.thresholds = thresholds
        self.seed = seed
        self._hashes = np.zeros(0, np.uint64)
        self._thresholds = np.zeros(0)

    def setup(self) -> None:
        self._hashes = query_hashes(QUERY_COUNTS.read(Path(self.queries)).column("query").to_pylist())
        self._thresholds = np.load(self.thresholds)

    def run(self, task: Task[ListedFile], folder: Path, stats: TaskStats) -> list[Path]:
        listed = task.payload.listed_by
        n = VERDICTS.read(verdicts_path(folder, listed)).num_rows
        rows, ids, u = pool_draws(folder, listed, self._hashes, self.seed)
        result = keep_drawn(rows, ids, u=u, thresholds=self._thresholds, n=n)
        kept, drops = self._apply(task, result, stats)
        paths = [folder / kind / f"{task.name}.parquet" for kind in ("survivors", "drops", "draws")]
        SURVIVORS.write(paths[0], pa.Table.from_pylist(kept, schema=SURVIVORS.arrow))
        DROPS.write(paths[1], pa.Table.from_pylist(drops, schema=DROPS.arrow))
        QUERY_DRAWS.write(paths[2], draws_table(rows, ids, result))
        return paths

    @staticmethod
    def _apply(
        task: Task[ListedFile], result: Kept, stats: TaskStats
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The images that keep a pair, with their pairs, and the pairs that leave."""
        kept: list[dict[str, Any]] = []
        drops: list[dict[str, Any]] = []
        drawn_by = result.drawn_by.to_pylist()
        row = 0
        for image in _images(Path(task.payload.survivors)):
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
            stats.drop(PAIRS_STEP, NOT_DRAWN, len(image["pairs"]) - len(left))
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
    return {"pair_id": pair["pair_id"], "url": url, "text": pair["text"], "reason": NOT_DRAWN, "detail": detail}

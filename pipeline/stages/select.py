"""Select: search every query in every caption, keep each pair once, let each query draw up to its cap.

Four passes over the candidates, each file to file; the shuffles carry keys only (DESIGN: "Selection, exactly"):
match and choose winners among equals, count N_q, find each query's threshold, keep what a query draws.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.columnar.files import file_entry
from pipeline.columnar.stage import STAGE_MANIFEST, Job, Outcome, StageManifest, file_inputs, run_stage, stage_input
from pipeline.columnar.tasks import Receipt, Task
from pipeline.recipe import SelectSettings
from pipeline.stages.carry import QUERY_COUNTS_FILE
from pipeline.stages.select_keep import STEP, KeepFile
from pipeline.stages.select_match import match_and_count
from pipeline.stages.select_thresholds import find_thresholds
from schemas.atomic import atomic_path
from schemas.errors import UserError
from schemas.queries import QUERIES, QUERY_COUNTS, QUERY_DRAWS

NAME = "select"
VERSION = 1


def run(
    job: Job, settings: SelectSettings, candidates: Path, queries: Path, folder: Path
) -> tuple[StageManifest, bool]:
    """Runs the stage on a finished candidates folder and a query list."""
    inputs = {"candidates": stage_input(candidates), **_query_identity(queries)}
    upstream = [StageManifest.load(candidates, "candidates")]
    if (queries.parent / STAGE_MANIFEST).exists():
        upstream.insert(0, StageManifest.load(queries.parent, "queries"))
    return run_stage(
        job,
        folder,
        NAME,
        VERSION,
        settings.model_dump(mode="json"),
        inputs,
        lambda: _body(job, settings, candidates, queries, folder),
        upstream,
    )


def _query_identity(queries: Path) -> dict[str, str]:
    """Identity of a query list: the manifest of the stage that wrote it, or the file itself."""
    if (queries.parent / STAGE_MANIFEST).exists():
        return {"queries": stage_input(queries.parent)}
    return file_inputs([str(queries)])


def _body(job: Job, settings: SelectSettings, candidates: Path, queries: Path, folder: Path) -> Outcome:
    manifest = StageManifest.load(candidates, "candidates")
    files = manifest.paths(candidates, "candidates")
    query_table = QUERIES.read(queries)
    if query_table.num_rows == 0:
        raise UserError(f"{queries} holds no queries: give the query list a source that yields some")
    texts = query_table.column("query").to_pylist()
    match_tasks = [Task(n, f"match-{path.stem}", {"candidates": str(path)}) for n, path in enumerate(files)]
    pool = match_and_count(job, settings, folder, match_tasks, queries, len(texts))
    if not pool.any():
        raise UserError(
            f"no caption of {candidates} matches any of the {len(texts):,} queries: "
            "check the language of the candidates and of the query list"
        )
    thresholds = find_thresholds(job, settings, folder, match_tasks, pool, texts)
    with atomic_path(folder / "thresholds.npy") as path, path.open("wb") as file:
        np.save(file, thresholds)
    keep_tasks = [Task(n, path.stem, {"candidates": str(path)}) for n, path in enumerate(files)]
    work = KeepFile(str(queries), str(folder / "thresholds.npy"), settings.seed)
    receipts = job.run(folder, keep_tasks, "Keep what a query draws", "pairs", work)
    outcome = Outcome()
    outcome.add_receipts(receipts, [STEP])
    counts = _sum_draws(folder, receipts, query_table, pool, thresholds)
    QUERY_COUNTS.write(folder / QUERY_COUNTS_FILE, counts)
    outcome.files.append(file_entry(folder, folder / QUERY_COUNTS_FILE))
    outcome.extra = _summary(counts, settings.cap)
    return outcome


def _sum_draws(
    folder: Path, receipts: list[Receipt], queries: pa.Table, pool: np.ndarray, thresholds: np.ndarray
) -> pa.Table:
    drawn, kept = np.zeros(len(pool), np.int64), np.zeros(len(pool), np.int64)
    for receipt in receipts:
        table = QUERY_DRAWS.read(folder / "draws" / f"{receipt.task}.parquet")
        ids = table.column("query_id").to_numpy()
        drawn[ids] += table.column("drawn").to_numpy()
        kept[ids] += table.column("kept").to_numpy()
    columns = {name: queries.column(name) for name in ("query_id", "query", "source")}
    return QUERY_COUNTS.table(
        {**columns, "pool": pool, "drawn": drawn, "kept": kept, "threshold": np.minimum(thresholds, 1.0)}
    )


def _summary(counts: pa.Table, cap: int) -> dict[str, Any]:
    pool, drawn = counts.column("pool").to_numpy(), counts.column("drawn").to_numpy()
    return {
        "queries": len(pool),
        "queries_with_pairs": int((pool > 0).sum()),
        "queries_over_cap": int((pool > cap).sum()),
        "matches_in_pool": int(pool.sum()),
        "draws": int(drawn.sum()),
    }

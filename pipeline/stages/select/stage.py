"""Select: search every query in every caption, keep each pair once, let each query draw up to its cap.

Four passes over the candidates, each file to file; the shuffles carry keys only (DESIGN: "Selection, exactly"):
match and choose winners among equals, count N_q, find each query's threshold, keep what a query draws.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.jobs import Task, TaskResult
from openwit.pipeline.execution.stage import (
    STAGE_MANIFEST,
    Job,
    StageManifest,
    StageResult,
    file_inputs,
    merge_records,
    run_stage,
    stage_input,
)
from openwit.pipeline.stages.select.apply import STEP, KeepFile, MatchedFile
from openwit.pipeline.stages.select.choose_cap import expected_pairs, t_of_tail_share, t_of_target
from openwit.pipeline.stages.select.layout import samples_path, sum_draws, verdicts_path
from openwit.pipeline.stages.select.match import CandidatesFile, MatchInput, match_and_count, match_tasks
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.select.thresholds import find_thresholds
from openwit.pipeline.stages.sidecars import QUERY_COUNTS_FILE
from openwit.schemas.common.atomic import atomic_path, sha256_of
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.tables.candidates import PAIR_SAMPLES, VERDICTS
from openwit.schemas.tables.queries import QUERIES, QUERY_COUNTS

NAME = "select"
VERSION = 2


def run(
    job: Job,
    settings: SelectSettings,
    candidates: Sequence[Path],
    queries: Path,
    folder: Path,
    reuse: Path | None = None,
) -> tuple[StageManifest, bool]:
    """Runs the stage on finished candidates folders and a query list.

    Args:
        candidates: one folder or more; the pool is all of them.
        reuse: folder of an earlier selection whose matches are taken over where they are of the same candidates and
            queries. It changes the time a selection takes, and nothing in the result.
    """
    upstream = [merge_records([StageManifest.load(path, "candidates") for path in candidates])]
    if not queries.exists():
        raise OpenWITError(f"{queries} does not exist: give queries.parquet, or the folder of `wit queries`")
    inputs = {f"candidates {n}": stage_input(path) for n, path in enumerate(candidates)} | _query_identity(queries)
    if reuse is not None:
        StageManifest.load(reuse, NAME)
    if (queries.parent / STAGE_MANIFEST).exists():
        upstream.insert(0, StageManifest.load(queries.parent, "queries"))
    return run_stage(
        job,
        folder,
        NAME,
        VERSION,
        settings.model_dump(mode="json"),
        inputs,
        lambda: _execute(job, settings, candidates, queries, folder, reuse),
        upstream,
    )


def _query_identity(queries: Path) -> dict[str, str]:
    """Identity of a query list: the manifest of the stage that wrote it, or the file itself."""
    if (queries.parent / STAGE_MANIFEST).exists():
        return {"queries": stage_input(queries.parent)}
    return file_inputs([str(queries)])


def _execute(
    job: Job, settings: SelectSettings, candidates: Sequence[Path], queries: Path, folder: Path, reuse: Path | None
) -> StageResult:
    files, rows = _files(candidates)
    query_table = QUERIES.read(queries)
    if query_table.num_rows == 0:
        raise OpenWITError(f"{queries} holds no queries: give the query list a source that yields some")
    texts = query_table.column("query").to_pylist()
    matching = match_tasks(files, sha256_of(queries), settings, reuse)
    pool = match_and_count(job, settings, folder, matching, queries, len(texts), rows)
    if not pool.any():
        raise OpenWITError(
            f"no caption of {' '.join(map(str, candidates))} matches any of the {len(texts):,} queries: "
            "check the language of the candidates and of the query list"
        )
    cap, chosen = _choose_cap(settings, folder, matching, pool)
    drawn_cap = round(cap * settings.oversample)
    thresholds = find_thresholds(job, settings, folder, matching, pool, texts, drawn_cap)
    with atomic_path(folder / "thresholds.npy") as path, path.open("wb") as file:
        np.save(file, thresholds)
    keep_tasks = [
        Task(n, file.name, MatchedFile(str(file.path), task.name))
        for n, (file, task) in enumerate(zip(files, matching, strict=True))
    ]
    work = KeepFile(str(queries), str(folder / "thresholds.npy"), settings.seed)
    results = job.run(folder, keep_tasks, "Keep what a query draws", "pairs", work)
    result = StageResult()
    result.add_results(results, [STEP])
    counts = _query_counts(folder, results, query_table, pool, thresholds)
    QUERY_COUNTS.write(folder / QUERY_COUNTS_FILE, counts)
    result.files.append(file_entry(folder, folder / QUERY_COUNTS_FILE))
    result.extra = {"cap": cap, **chosen, **_summary(counts, drawn_cap)}
    return result


def _files(candidates: Sequence[Path]) -> tuple[list[CandidatesFile], int]:
    """The candidates files of all folders, and their rows."""
    files, rows = [], 0
    for number, folder in enumerate(candidates):
        manifest = StageManifest.load(folder, "candidates")
        rows += manifest.rows_out("pairs")
        prefix = f"{number:02d}-" if len(candidates) > 1 else ""
        files += [
            CandidatesFile(folder / entry.path, entry.sha256, prefix + Path(entry.path).stem)
            for entry in manifest.entries("candidates")
        ]
    return files, rows


def _choose_cap(
    settings: SelectSettings, folder: Path, tasks: Sequence[Task[MatchInput]], pool: np.ndarray
) -> tuple[int, dict[str, Any]]:
    """The t of the settings, or the one that gives what they ask for; and how it came about, for the manifest."""
    if settings.tail_share is not None:
        cap = t_of_tail_share(pool, settings.tail_share)
        return cap, {"cap_chosen_by": f"tail share {settings.tail_share:g}"}
    if settings.target_pairs is None:
        return settings.cap, {}
    lists = pa.concat_tables([PAIR_SAMPLES.read(samples_path(folder, task.name)) for task in tasks]).column(
        "query_ids"
    )
    sample: pa.ListArray = pa.concat_arrays(lists.chunks)
    pairs = sum(_pairs_in_pool(folder, task) for task in tasks)
    scale = pairs / max(len(sample), 1)
    offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(sample).to_numpy())])
    ids = sample.flatten().to_numpy()
    cap = t_of_target(pool, offsets, ids=ids, target=settings.target_pairs / scale)
    expected = round(scale * expected_pairs(pool, offsets, ids=ids, t=cap))
    chosen = {"cap_chosen_by": f"target of {settings.target_pairs:,} pairs", "expected_pairs": expected}
    return cap, {**chosen, "pairs_in_pool": pairs}


def _pairs_in_pool(folder: Path, task: Task[MatchInput]) -> int:
    return int(pc.sum(pc.equal(VERDICTS.read(verdicts_path(folder, task.name)).column("verdict"), 0)).as_py() or 0)


def _query_counts(
    folder: Path, results: list[TaskResult], queries: pa.Table, pool: np.ndarray, thresholds: np.ndarray
) -> pa.Table:
    drawn, kept = sum_draws(folder, results, len(pool))
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

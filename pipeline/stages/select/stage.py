"""Select: search every query in every caption, keep each pair once, let each query draw up to its cap.

Four passes over the candidates, each file to file; the shuffles carry keys only (docs/selection.md):
match and choose winners among equals, count N_q, find each query's threshold, keep the drawn pairs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.execution.files import checked, file_entry
from openwit.pipeline.execution.jobs import Task, TaskResult
from openwit.pipeline.execution.stage import (
    Job,
    StageManifest,
    StageResult,
)
from openwit.pipeline.stages.base import Inputs, Upstream
from openwit.pipeline.stages.queries import QueriesPaths
from openwit.pipeline.stages.select import SelectPaths
from openwit.pipeline.stages.select.apply import STEP, ApplyThresholds, KeepAll, MatchedFile
from openwit.pipeline.stages.select.choose_cap import cap_for_tail_share, cap_for_target_pairs, expected_pairs
from openwit.pipeline.stages.select.layout import MatchedDraws, sum_draws
from openwit.pipeline.stages.select.match import CandidatesFile, MatchInput, match_and_count, match_tasks
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.select.thresholds import find_thresholds
from openwit.pipeline.text.matching.settings import MatchMode
from openwit.schemas.common.atomic import atomic_path, sha256_of
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.common.wording import counted
from openwit.schemas.tables.candidates import PAIR_SAMPLES, VERDICTS
from openwit.schemas.tables.queries import MATCH_NOTE, QUERIES, QUERY_COUNTS


def select_pairs(job: Job, settings: SelectSettings, inputs: Inputs, folder: Path) -> StageResult:
    """Select the pairs that queries draw from all candidates folders.

    Args:
        inputs: `candidates`, the pool; `queries`, which `balance: all` does without; optionally `reuse`, an earlier
            selection whose matches are reused for the same candidates and queries; optionally `dead`, a list of pairs
            that are not in the pool any more.

    Raises:
        DataError: there are no queries, or no caption matches any; with `balance: all` neither matters.
    """
    candidates = [upstream.folder for upstream in inputs.several("candidates")]
    reuse = next((upstream.folder for upstream in inputs.several("reuse")), None)
    dead = next((str(upstream.folder) for upstream in inputs.several("dead")), None)
    files, rows = _files(candidates)
    if settings.balance == "all":
        return _keep_all(job, settings, inputs, folder, files, rows, reuse)
    queries, query_table = _query_list(inputs.one("queries"), settings.match)
    matching = match_tasks(files, sha256_of(queries), settings, reuse)
    pool = match_and_count(job, settings, folder, matching, queries, query_table.num_rows, rows, dead)
    if not pool.any():
        raise DataError(
            f"no caption of {' '.join(map(str, candidates))} matches any of the {query_table.num_rows:,} queries: "
            "check the language of the candidates and of the query list"
        )
    cap, chosen = _choose_cap(settings, folder, matching, pool)
    drawn_cap = round(cap * settings.oversample)
    source = MatchedDraws(folder, queries, settings.seed)
    thresholds = find_thresholds(job, settings, folder, matching, source, pool, drawn_cap)
    paths = SelectPaths(folder)
    with atomic_path(paths.thresholds) as path, path.open("wb") as file:
        np.save(file, thresholds)
    results = job.run(folder, _keep_tasks(files, matching), "Keep drawn pairs", "pairs", ApplyThresholds(source))
    result = StageResult()
    result.add_results(results, [STEP])
    counts = _query_counts(folder, results, query_table, pool, thresholds)
    QUERY_COUNTS.write(paths.query_counts, counts)
    result.files.append(file_entry(folder, paths.query_counts))
    result.extra = {"cap": cap, **chosen, **_summary(counts, drawn_cap)}
    return result


def _keep_all(
    job: Job,
    settings: SelectSettings,
    inputs: Inputs,
    folder: Path,
    files: Sequence[CandidatesFile],
    rows: int,
    reuse: Path | None,
) -> StageResult:
    """Keep every pair once; if there is a query list, record what matches it.

    Args:
        rows: of all files.
        reuse: folder of an earlier selection.
    """
    queries, table = None, QUERIES.empty()
    for listed in inputs.several("queries"):
        queries, table = _query_list(listed, settings.match)
    matching = match_tasks(files, "" if queries is None else sha256_of(queries), settings, reuse)
    dead = next((str(upstream.folder) for upstream in inputs.several("dead")), None)
    pool = match_and_count(job, settings, folder, matching, queries, table.num_rows, rows, dead)
    results = job.run(folder, _keep_tasks(files, matching), "Keep pairs", "pairs", KeepAll(settings.seed))
    result = StageResult()
    result.add_results(results, [STEP])
    if queries is not None:
        # No query draws, so that none accepts any u.
        counts = _query_counts(folder, results, table, pool, np.zeros(len(pool)))
        QUERY_COUNTS.write(SelectPaths(folder).query_counts, counts)
        result.files.append(file_entry(folder, SelectPaths(folder).query_counts))
        result.extra = _matched_summary(pool)
    return result


def _query_list(listed: Upstream, match: MatchMode) -> tuple[Path, pa.Table]:
    """Return the path of the query list, and what it holds.

    Raises:
        DataError: it holds no queries.
        RecipeError: it was made for another way of matching.
    """
    path = listed.folder if listed.manifest is None else QueriesPaths(listed.folder).queries
    table = QUERIES.read(checked(path))
    if table.num_rows == 0:
        raise DataError(f"{path} holds no queries: give the query list a source that yields some")
    _check_match(path, match)
    return path, table


def _keep_tasks(files: Sequence[CandidatesFile], matching: Sequence[Task[MatchInput]]) -> list[Task[MatchedFile]]:
    return [
        Task(n, file.name, MatchedFile(str(file.path), task.name))
        for n, (file, task) in enumerate(zip(files, matching, strict=True))
    ]


def _check_match(queries: Path, match: MatchMode) -> None:
    """Refuse a list that was made for another way of matching: a folded list has lost what `metaclip` compares.

    A list that other software wrote is taken as it is.
    """
    notes = QUERIES.notes(queries)
    if notes is None:
        return
    made_for = notes.get(MATCH_NOTE, "words")  # earlier releases always folded
    if made_for != match:
        kept = "without case and spelling" if made_for == "words" else "with every spelling as an entry"
        raise RecipeError(
            f"{queries} was made for matching {made_for!r}, {kept}, and select matches {match!r}: "
            f"make it with queries.match: {match}, or set select.match: {made_for}"
        )


def _files(candidates: Sequence[Path]) -> tuple[list[CandidatesFile], int]:
    """Return the candidates files of all folders, and their number of rows."""
    files, rows = [], 0
    for number, folder in enumerate(candidates):
        manifest = StageManifest.load(folder, "candidates")
        rows += manifest.rows_out("pairs")
        prefix = f"{number:02d}-" if len(candidates) > 1 else ""
        files += [
            CandidatesFile(folder / entry.path, entry.sha256, prefix + as_path(entry.path).stem)
            for entry in manifest.entries("candidates")
        ]
    return files, rows


def _choose_cap(
    settings: SelectSettings, folder: Path, tasks: Sequence[Task[MatchInput]], pool: np.ndarray
) -> tuple[int, dict[str, Any]]:
    """Return the cap, set or chosen to reach a target, and how it was chosen, for the manifest."""
    if settings.tail_share is not None:
        cap = cap_for_tail_share(pool, settings.tail_share)
        return cap, {"cap_chosen_by": f"tail share {settings.tail_share:g}"}
    if settings.target_pairs is None:
        return settings.cap, {}
    lists = pa.concat_tables([PAIR_SAMPLES.read(SelectPaths(folder).samples(task.name)) for task in tasks]).column(
        "query_ids"
    )
    sample: pa.ListArray = pa.concat_arrays(lists.chunks)
    pairs = sum(_pairs_in_pool(folder, task) for task in tasks)
    scale = pairs / max(len(sample), 1)
    offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(sample).to_numpy())])
    ids = sample.flatten().to_numpy()
    cap = cap_for_target_pairs(pool, offsets, ids=ids, target=settings.target_pairs / scale)
    expected = round(scale * expected_pairs(pool, offsets, ids=ids, t=cap))
    chosen = {"cap_chosen_by": f"target of {counted(settings.target_pairs, 'pair')}", "expected_pairs": expected}
    return cap, {**chosen, "pairs_in_pool": pairs}


def _pairs_in_pool(folder: Path, task: Task[MatchInput]) -> int:
    return int(
        pc.sum(pc.equal(VERDICTS.read(SelectPaths(folder).verdicts(task.name)).column("verdict"), 0)).as_py() or 0
    )


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
        **_matched_summary(pool),
        "queries_over_cap": int((pool > cap).sum()),
        "draws": int(drawn.sum()),
    }


def _matched_summary(pool: np.ndarray) -> dict[str, Any]:
    return {
        "queries": len(pool),
        "queries_with_pairs": int((pool > 0).sum()),
        "matches_in_pool": int(pool.sum()),
    }

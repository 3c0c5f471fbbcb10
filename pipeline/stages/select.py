"""Select: search every query in every caption, keep each pair once, let each query draw up to its cap.

Four passes over the candidates, each file to file; the shuffles carry keys only (DESIGN: "Selection, exactly"):
match and choose winners among equals, count N_q, find each query's threshold, keep what a query draws.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline.columnar.files import file_entry
from pipeline.columnar.progress import watching
from pipeline.columnar.stage import STAGE_MANIFEST, Job, Outcome, StageManifest, file_inputs, run_stage, stage_input
from pipeline.columnar.tables import concat_blobs, split_by, to_blob
from pipeline.columnar.tasks import DoOnce, FileWork, Receipt, Tally, Task, receipts_of, run_job
from pipeline.recipe import SelectSettings
from pipeline.selection.balance import cap_smallest, probabilistic_thresholds, ragged, send_bounds
from pipeline.selection.chance import pair_hashes, query_hashes, uniform
from pipeline.selection.keep import keep_drawn
from pipeline.selection.winners import VERDICT_REASONS, choose_winners
from pipeline.stages.carry import QUERY_COUNTS_FILE
from pipeline.text.match import Matcher
from pipeline.web.urls import host_of, normalise_url
from schemas.atomic import atomic_path
from schemas.candidates import CANDIDATES, DROPS, MATCHES, SELECTED, VERDICTS
from schemas.errors import UserError
from schemas.queries import QUERIES, QUERY_COUNTS, QUERY_DRAWS, THRESHOLDS

NAME = "select"
STEP = "select/pairs"
VERSION = 1
NO_MATCH = 3

HOST_BUCKETS = 4096

_KEY_BUCKETS = 64
_WIDEN = 4.0


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
    pool = _match_and_count(job, settings, folder, match_tasks, queries, len(texts))
    if not pool.any():
        raise UserError(
            f"no caption of {candidates} matches any of the {len(texts):,} queries: "
            "check the language of the candidates and of the query list"
        )
    thresholds = _find_thresholds(job, settings, folder, match_tasks, pool, texts)
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


# Pass 1 and 2: match, choose winners, count.


class MatchFile(FileWork):
    """Matches the captions of one candidates file; leaves what selection needs of each row."""

    def __init__(self, queries: str, settings: SelectSettings) -> None:
        self.queries = queries
        self.settings = settings
        self._matcher: Matcher | None = None

    def setup(self) -> None:
        texts = QUERIES.read(Path(self.queries)).column("query").to_pylist()
        self._matcher = Matcher(texts, self.settings.match)

    def do(self, task: Task, folder: Path, tally: Tally) -> list[Path]:
        assert self._matcher is not None
        target = folder / "matches" / f"{task.name}.parquet"
        MATCHES.write(target, self._matches(Path(task.payload["candidates"]), self._matcher, tally))
        return [target]

    @staticmethod
    def _matches(path: Path, matcher: Matcher, tally: Tally) -> Iterator[pa.Table]:
        rows = 0
        for batch in CANDIDATES.read_batches(path):
            texts = batch.column("text").combine_chunks()
            urls = batch.column("url").to_pylist()
            yield MATCHES.table(
                {
                    "pair_id": batch.column("pair_id"),
                    "url_hash": np.fromiter(
                        (xxhash.xxh3_64_intdigest(normalise_url(u).encode()) for u in urls), np.uint64, len(urls)
                    ),
                    "text_length": pc.utf8_length(texts),
                    "tie": _row_hashes(batch),
                    "query_ids": matcher.match(texts),
                }
            )
            rows += batch.num_rows
            tally.tick(rows)


def _row_hashes(batch: pa.Table) -> np.ndarray:
    """Hash of what tells equal pairs apart: the provenance. uint64 (N,)."""
    columns = [batch.column(c).to_pylist() for c in ("text", "page_url", "archive", "record_offset", "text_source")]
    rows = zip(*columns, strict=True)
    return np.fromiter((xxhash.xxh3_64_intdigest(repr(row).encode()) for row in rows), np.uint64, batch.num_rows)


class SendPairKeys(beam.DoFn):
    """(task, receipt) of a matched file -> (bucket, keys of its rows that match something)."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(self, element: tuple[Task, Receipt]) -> Iterator[tuple[int, bytes]]:
        task, _ = element
        matches = MATCHES.read(_matches_path(Path(self.folder), task))
        matched = np.diff(_offsets(matches)) > 0
        rows = np.flatnonzero(matched)
        url_hash = matches.column("url_hash").to_numpy()[rows]
        keys = pa.table(
            {
                "file": pa.array(np.full(len(rows), task.number, np.int32)),
                "row": pa.array(rows.astype(np.int64)),
                "url_hash": pa.array(url_hash),
                "pair": pa.array(pair_hashes(matches.column("pair_id").combine_chunks())[rows]),
                "text_length": pa.array(matches.column("text_length").to_numpy()[rows]),
                "tie": pa.array(matches.column("tie").to_numpy()[rows]),
            }
        )
        for bucket, part in split_by(keys, url_hash % np.uint64(_KEY_BUCKETS)):
            yield bucket, to_blob(part)


class ChooseWinners(beam.DoFn):
    """(bucket, keys) -> (file, rows that lose and why)."""

    def __init__(self, settings: SelectSettings) -> None:
        self.settings = settings

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        keys = concat_blobs(list(element[1]))
        columns = {name: keys.column(name).to_numpy() for name in keys.column_names}
        verdict = choose_winners(
            columns["url_hash"],
            columns["pair"],
            columns["text_length"],
            columns["tie"],
            self.settings.texts_per_image,
        )
        lost = np.flatnonzero(verdict)
        losers = pa.table({"row": pa.array(columns["row"][lost]), "verdict": pa.array(verdict[lost])})
        for file, part in split_by(losers, columns["file"][lost]):
            yield file, to_blob(part)


class WriteVerdicts(beam.DoFn):
    """(file, its losers) -> the file's verdicts on disk, and what it adds to N_q."""

    def __init__(self, folder: str, tasks: list[Task], queries: int) -> None:
        self.folder = folder
        self.tasks = tasks
        self.queries = queries

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[np.ndarray]:
        folder, task = Path(self.folder), self.tasks[element[0]]
        matches = MATCHES.read(_matches_path(folder, task))
        verdict = np.where(np.diff(_offsets(matches)) > 0, 0, NO_MATCH).astype(np.int8)
        blobs = [blob for blob in element[1] if blob]
        if blobs:
            losers = concat_blobs(blobs)
            verdict[losers.column("row").to_numpy()] = losers.column("verdict").to_numpy()
        VERDICTS.write(_verdicts_path(folder, task), VERDICTS.table({"verdict": verdict}))
        rows, ids = ragged(matches.column("query_ids").combine_chunks())
        yield np.bincount(ids[verdict[rows] == 0], minlength=self.queries)


class SumVectors(beam.CombineFn):
    """Sums int64 vectors: one crosses the shuffle per bundle, not one per row."""

    def create_accumulator(self) -> Any:
        return None

    def add_input(self, accumulator: Any, element: np.ndarray) -> Any:
        return element.copy() if accumulator is None else accumulator + element

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        total = None
        for accumulator in accumulators:
            if accumulator is not None:
                total = accumulator if total is None else total + accumulator
        return total

    def extract_output(self, accumulator: Any) -> Any:
        return accumulator


def _match_and_count(
    job: Job, settings: SelectSettings, folder: Path, tasks: list[Task], queries: Path, n_queries: int
) -> np.ndarray:
    """Leaves matches and verdicts per file; returns N_q, int64 (Q,)."""
    target = folder / "pool.npy"

    def write(vector: np.ndarray | None) -> None:
        with atomic_path(target) as path, path.open("wb") as file:
            np.save(file, np.zeros(n_queries, np.int64) if vector is None else vector)

    def construct(pipeline: beam.Pipeline) -> None:
        listed = pipeline | "List files" >> beam.Create(tasks, reshuffle=False)
        losers = (
            listed
            | "Spread files" >> beam.Reshuffle()
            | "Match captions" >> beam.ParDo(DoOnce(str(folder), MatchFile(str(queries), settings)))
            | "Send pair keys" >> beam.ParDo(SendPairKeys(str(folder))).with_output_types(tuple[int, bytes])
            | "Group pairs by URL" >> beam.GroupByKey()
            | "Choose winners" >> beam.ParDo(ChooseWinners(settings)).with_output_types(tuple[int, bytes])
        )
        every_file = listed | "Name each file" >> beam.Map(_with_nothing).with_output_types(tuple[int, bytes])
        _ = (
            (losers, every_file)
            | "Join losers and files" >> beam.Flatten()
            | "Group losers by file" >> beam.GroupByKey()
            | "Write verdicts" >> beam.ParDo(WriteVerdicts(str(folder), tasks, n_queries))
            | "Count pairs a query" >> beam.CombineGlobally(SumVectors())
            | "Write counts" >> beam.Map(write)
        )

    with watching(job.console, "Match captions", folder, tasks, "captions"):
        run_job(job.runner, folder, construct)
    receipts_of(folder, tasks)
    pool: np.ndarray = np.load(target)
    return pool


def _with_nothing(task: Task) -> tuple[int, bytes]:
    return task.number, b""


# Pass 3: thresholds.


class SendDraws(beam.DoFn):
    """task -> (bucket of queries, (q, u) of its pool rows below each query's bound)."""

    def __init__(self, folder: str, hashes: np.ndarray, bounds: np.ndarray, seed: int) -> None:
        self.folder = folder
        self.hashes = hashes
        self.bounds = bounds
        self.seed = seed

    def process(self, task: Task) -> Iterator[tuple[int, bytes]]:
        folder = Path(self.folder)
        _, ids, u = pool_draws(folder, task, self.hashes, self.seed)
        below = u <= self.bounds[ids]
        ids, u = ids[below], u[below]
        draws = pa.table({"query_id": pa.array(ids), "u": pa.array(u)})
        for bucket, part in split_by(draws, ids % _KEY_BUCKETS):
            yield bucket, to_blob(part)


class FindThresholds(beam.DoFn):
    """(bucket, draws) -> a thresholds file of the bucket's queries."""

    def __init__(self, folder: str, cap: int) -> None:
        self.folder = folder
        self.cap = cap

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[int]:
        draws = concat_blobs(list(element[1]))
        ids, thresholds, sent = cap_smallest(
            draws.column("query_id").to_numpy(), draws.column("u").to_numpy(), self.cap
        )
        table = THRESHOLDS.table({"query_id": ids.astype(np.int32), "threshold": thresholds, "sent": sent})
        THRESHOLDS.write(Path(self.folder) / f"{element[0]:05d}.parquet", table)
        yield element[0]


def _find_thresholds(
    job: Job, settings: SelectSettings, folder: Path, tasks: list[Task], pool: np.ndarray, texts: list[str]
) -> np.ndarray:
    """The u up to which each query draws: float64 (Q,), 1 where it draws all its pairs."""
    drawn_cap = settings.drawn_cap
    if settings.balance == "probabilistic":
        return probabilistic_thresholds(pool, drawn_cap)
    thresholds = np.ones(len(pool))
    asked = pool > drawn_cap
    hashes = query_hashes(texts)
    widen = 1.0
    while asked.any():
        bounds = np.where(asked, send_bounds(pool, drawn_cap, widen), 0.0)
        found, sent = _ask(job, settings, folder, tasks, hashes, bounds, drawn_cap)
        enough = asked & (sent >= drawn_cap)
        thresholds[enough] = found[enough]
        asked &= ~enough
        widen *= _WIDEN
    return thresholds


def _ask(
    job: Job,
    settings: SelectSettings,
    folder: Path,
    tasks: list[Task],
    hashes: np.ndarray,
    bounds: np.ndarray,
    cap: int,
) -> tuple[np.ndarray, np.ndarray]:
    """One round: the cap-th smallest u below the bound of each query, and how many were sent."""
    target = folder / "thresholds"
    for old in target.glob("*.parquet"):
        old.unlink()
    target.mkdir(exist_ok=True)

    def construct(pipeline: beam.Pipeline) -> None:
        _ = (
            pipeline
            | "List files" >> beam.Create(tasks, reshuffle=False)
            | "Spread files" >> beam.Reshuffle()
            | "Send draws"
            >> beam.ParDo(SendDraws(str(folder), hashes, bounds, settings.seed)).with_output_types(tuple[int, bytes])
            | "Group draws by query" >> beam.GroupByKey()
            | "Find thresholds" >> beam.ParDo(FindThresholds(str(target), cap))
        )

    run_job(job.runner, folder, construct)
    found, sent = np.zeros(len(bounds)), np.zeros(len(bounds), np.int64)
    for path in sorted(target.glob("*.parquet")):
        table = THRESHOLDS.read(path)
        ids = table.column("query_id").to_numpy()
        found[ids] = table.column("threshold").to_numpy()
        sent[ids] = table.column("sent").to_numpy()
    return found, sent


# Pass 4: keep.


class KeepFile(FileWork):
    """Applies the thresholds to one candidates file: selected pairs, and the others with their reasons."""

    def __init__(self, queries: str, thresholds: str, seed: int) -> None:
        self.queries = queries
        self.thresholds = thresholds
        self.seed = seed
        self._texts: list[str] = []
        self._hashes = np.zeros(0, np.uint64)
        self._thresholds = np.zeros(0)

    def setup(self) -> None:
        self._texts = QUERIES.read(Path(self.queries)).column("query").to_pylist()
        self._hashes = query_hashes(self._texts)
        self._thresholds = np.load(self.thresholds)

    def do(self, task: Task, folder: Path, tally: Tally) -> list[Path]:
        source = Path(task.payload["candidates"])
        match_task = Task(task.number, f"match-{source.stem}", {})
        candidates = CANDIDATES.read(source)
        matches = MATCHES.read(_matches_path(folder, match_task))
        verdict = VERDICTS.read(_verdicts_path(folder, match_task)).column("verdict").to_numpy()
        rows, ids, u = pool_draws(folder, match_task, self._hashes, self.seed)
        result = keep_drawn(rows, ids, u, self._thresholds, candidates.num_rows)
        tally.enter(STEP, candidates.num_rows)
        tally.leave(STEP, int(result.kept.sum()))
        reasons = np.full(len(verdict), "not_drawn", object)
        for code, reason in {**VERDICT_REASONS, NO_MATCH: "no_match"}.items():
            reasons[verdict == code] = reason
        for reason, n in Counter(reasons[~result.kept].tolist()).items():
            tally.drop(STEP, reason, n)
        files = [
            self._write_selected(folder, task, candidates, matches, result),
            self._write_drops(folder, task, candidates, result, reasons),
            self._write_draws(folder, task, matches, result),
        ]
        tally.tick(candidates.num_rows, 1.0)
        return files

    @staticmethod
    def _write_selected(folder: Path, task: Task, candidates: pa.Table, matches: pa.Table, result: Any) -> Path:
        kept = np.flatnonzero(result.kept)
        table = candidates.take(pa.array(kept))
        urls, has_bytes = table.column("url").to_pylist(), table.column("has_bytes").to_pylist()
        buckets = [_host_bucket(u, b) for u, b in zip(urls, has_bytes, strict=True)]
        table = table.append_column("query_ids", matches.column("query_ids").take(pa.array(kept)))
        table = table.append_column("drawn_by", result.drawn_by.take(pa.array(kept)))
        table = table.append_column("priority", pa.array(result.priority[kept]))
        table = table.append_column("host_bucket", pa.array(buckets, pa.int32()))
        target = folder / "selected" / f"{task.name}.parquet"
        parts = [part for _, part in split_by(table, np.array(buckets, np.int32))]
        SELECTED.write(target, parts or SELECTED.empty())
        return target

    def _write_drops(self, folder: Path, task: Task, candidates: pa.Table, result: Any, reasons: np.ndarray) -> Path:
        lost = np.flatnonzero(~result.kept)
        table = candidates.select(["pair_id", "url", "text"]).take(pa.array(lost))
        details = [
            f"nearest query {self._texts[q]!r} at {p:.3g} times its threshold" if q >= 0 else None
            for q, p in zip(result.nearest[lost].tolist(), result.priority[lost].tolist(), strict=True)
        ]
        target = folder / "drops" / f"{task.name}.parquet"
        columns = {name: table.column(name) for name in ("pair_id", "url", "text")}
        DROPS.write(target, DROPS.table({**columns, "reason": reasons[lost].tolist(), "detail": details}))
        return target

    @staticmethod
    def _write_draws(folder: Path, task: Task, matches: pa.Table, result: Any) -> Path:
        rows, ids = ragged(matches.column("query_ids").combine_chunks())
        kept_ids, kept = np.unique(ids[result.kept[rows]], return_counts=True)
        drawn_ids, drawn_counts = np.unique(result.drawn_by.flatten().to_numpy(), return_counts=True)
        drawn = np.zeros(len(kept_ids), np.int64)
        drawn[np.searchsorted(kept_ids, drawn_ids)] = drawn_counts
        target = folder / "draws" / f"{task.name}.parquet"
        QUERY_DRAWS.write(target, QUERY_DRAWS.table({"query_id": kept_ids, "drawn": drawn, "kept": kept}))
        return target


def pool_draws(folder: Path, task: Task, hashes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (pool row, query it matches) of a file with its u: int64 (M,), int32 (M,), float64 (M,)."""
    matches = MATCHES.read(_matches_path(folder, task))
    verdict = VERDICTS.read(_verdicts_path(folder, task)).column("verdict").to_numpy()
    rows, ids = ragged(matches.column("query_ids").combine_chunks())
    in_pool = verdict[rows] == 0
    rows, ids = rows[in_pool], ids[in_pool]
    pairs = pair_hashes(matches.column("pair_id").combine_chunks())
    return rows, ids, uniform(pairs[rows], hashes[ids], seed)


def _host_bucket(url: str, has_bytes: bool) -> int:
    # Bytes that lie in a table need no politeness: spread by row. Everything of a host goes to one worker.
    key = url if has_bytes else host_of(url)
    return xxhash.xxh3_64_intdigest(key.encode()) % HOST_BUCKETS


def _matches_path(folder: Path, task: Task) -> Path:
    return folder / "matches" / f"{task.name}.parquet"


def _verdicts_path(folder: Path, task: Task) -> Path:
    return folder / "verdicts" / f"{task.name}.parquet"


def _offsets(matches: pa.Table) -> np.ndarray:
    offsets: np.ndarray = matches.column("query_ids").combine_chunks().offsets.to_numpy()
    return offsets


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

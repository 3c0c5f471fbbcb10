"""Selection, passes 1 and 2: match every caption, choose winners among equals, count the pairs of each query."""

import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from openwit.pipeline.common.urls import normalise_url
from openwit.pipeline.execution.blobs import bucket_count, concat_blobs, split_by, to_blob
from openwit.pipeline.execution.progress import watching
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.execution.tasks import (
    FileTask,
    RunFileTask,
    Task,
    TaskResult,
    TaskStats,
    finished_results,
    read_result,
    results_of,
    run_job,
    with_nothing,
)
from openwit.pipeline.stages.select.balance import ragged
from openwit.pipeline.stages.select.hash_uniform import mix, pair_hashes
from openwit.pipeline.stages.select.layout import matches_path, query_offsets, samples_path, verdicts_path
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.select.winners import NO_MATCH, choose_winners
from openwit.pipeline.text.matching.matcher import Matcher
from openwit.pipeline.text.matching.rows import ROWS_FOR_TABLES
from openwit.pipeline.text.normalise import words
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.tables.candidates import CANDIDATES, MATCHES, PAIR_SAMPLES, VERDICTS
from openwit.schemas.tables.queries import QUERIES

_KEYS = ("text_length", "tie", "words_hash")
_MATCH_KEY = "match_key"
# Seconds after which the kernel is not being loaded but compiled.
_COMPILES_S = 4.0
MATCH_VERSION = 1
"""Rises when a caption may match otherwise than before: earlier matches are then not taken over."""
# Pairs that are looked at to solve for a target: the error of the sum is under a third of a percent.
_SAMPLED_PAIRS = 200_000


class MatchFile(FileTask):
    """Matches the captions of one candidates file; leaves what selection needs of each row.

    Where an earlier selection matched the same file with the same queries, its work is taken over.
    """

    def __init__(self, queries: str, settings: SelectSettings) -> None:
        self.queries = queries
        self.settings = settings
        self._matcher: Matcher | None = None

    def run(self, task: Task, folder: Path, stats: TaskStats) -> list[Path]:
        target = folder / "matches" / f"{task.name}.parquet"
        stats.extra[_MATCH_KEY] = task.payload[_MATCH_KEY]
        earlier = task.payload["earlier"]
        if earlier is not None:
            with atomic_path(target) as path:
                shutil.copyfile(earlier, path)
            return [target]
        if self._matcher is None:  # built for the first file that needs it
            texts = QUERIES.read(Path(self.queries)).column("query")
            self._matcher = Matcher(texts, self.settings.match)
        MATCHES.write(target, self._matches(Path(task.payload["candidates"]), self._matcher, stats))
        return [target]

    def _matches(self, path: Path, matcher: Matcher, stats: TaskStats) -> Iterator[pa.Table]:
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
                    "words_hash": self._words_hashes(texts),
                    "query_ids": matcher.match(texts),
                }
            )
            rows += batch.num_rows
            stats.tick(rows)

    def _words_hashes(self, texts: pa.Array) -> np.ndarray:
        """xxh3-64 of each text's words, sorted and each once; zeros where nobody asks. uint64 (N,)."""
        if self.settings.near_equal_texts == "keep":
            return np.zeros(len(texts), np.uint64)
        hashes = (xxhash.xxh3_64_intdigest(" ".join(sorted(set(words(text)))).encode()) for text in texts.to_pylist())
        return np.fromiter(hashes, np.uint64, len(texts))


def _row_hashes(batch: pa.Table) -> np.ndarray:
    """Hash of what tells equal pairs apart: the provenance. uint64 (N,)."""
    columns = [batch.column(c).to_pylist() for c in ("text", "page_url", "archive", "record_offset", "text_source")]
    rows = ("\0".join(map(str, row)) for row in zip(*columns, strict=True))
    return np.fromiter((xxhash.xxh3_64_intdigest(row.encode()) for row in rows), np.uint64, batch.num_rows)


class SendPairKeys(beam.DoFn):
    """(task, its result) of a matched file -> (bucket, keys of its rows that match something)."""

    def __init__(self, folder: str, buckets: int) -> None:
        self.folder = folder
        self.buckets = buckets

    def process(self, element: tuple[Task, TaskResult]) -> Iterator[tuple[int, bytes]]:
        task, _ = element
        matches = MATCHES.read(matches_path(Path(self.folder), task))
        matched = np.diff(query_offsets(matches)) > 0
        rows = np.flatnonzero(matched)
        url_hash = matches.column("url_hash").to_numpy()[rows]
        keys = pa.table(
            {
                "file": pa.array(np.full(len(rows), task.number, np.int32)),
                "row": pa.array(rows.astype(np.int64)),
                "url_hash": pa.array(url_hash),
                "pair": pa.array(pair_hashes(matches.column("pair_id").combine_chunks())[rows]),
                **{name: pa.array(matches.column(name).to_numpy()[rows]) for name in _KEYS},
            }
        )
        for bucket, part in split_by(keys, url_hash % np.uint64(self.buckets)):
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
            text_length=columns["text_length"],
            tie=columns["tie"],
            texts=self.settings.texts_per_image,
            words_hash=columns["words_hash"] if self.settings.near_equal_texts == "drop" else None,
        )
        lost = np.flatnonzero(verdict)
        losers = pa.table({"row": pa.array(columns["row"][lost]), "verdict": pa.array(verdict[lost])})
        for file, part in split_by(losers, columns["file"][lost]):
            yield file, to_blob(part)


class WriteVerdicts(beam.DoFn):
    """(file, its losers) -> the file's verdicts on disk, and what it adds to N_q.

    Args:
        sample_share: share of the pool's pairs, drawn by hash, whose queries are kept as a sample.
    """

    def __init__(self, folder: str, tasks: list[Task], queries: int, sample_share: float) -> None:
        self.folder = folder
        self.tasks = tasks
        self.queries = queries
        self.sample_share = sample_share

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[np.ndarray]:
        folder, task = Path(self.folder), self.tasks[element[0]]
        matches = MATCHES.read(matches_path(folder, task))
        verdict = np.where(np.diff(query_offsets(matches)) > 0, 0, NO_MATCH).astype(np.int8)
        blobs = [blob for blob in element[1] if blob]
        if blobs:
            losers = concat_blobs(blobs)
            verdict[losers.column("row").to_numpy()] = losers.column("verdict").to_numpy()
        VERDICTS.write(verdicts_path(folder, task), VERDICTS.table({"verdict": verdict}))
        if self.sample_share:
            place = mix(pair_hashes(matches.column("pair_id").combine_chunks())) / 2.0**64
            sampled = pa.array((verdict == 0) & (place < self.sample_share))
            lists = matches.column("query_ids").filter(sampled)
            PAIR_SAMPLES.write(samples_path(folder, task), PAIR_SAMPLES.table({"query_ids": lists}))
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


class CandidatesFile(NamedTuple):
    """A file to match: where it is, the sha256 of its bytes, and the name of what is made of it."""

    path: Path
    sha256: str
    name: str


def match_tasks(
    files: Sequence[CandidatesFile], queries_sha256: str, settings: SelectSettings, reuse: Path | None
) -> list[Task]:
    """A task a candidates file.

    Args:
        files: in the order of the tasks.
        queries_sha256: of the query list.
        settings: how to match.
        reuse: folder of an earlier selection; what it matched in the same way is not matched again.
    """
    earlier = _matched(reuse) if reuse is not None else {}
    how = f"{queries_sha256} {settings.match} {settings.near_equal_texts} {MATCHES.version} {MATCH_VERSION}"
    tasks = []
    for number, file in enumerate(files):
        key = xxhash.xxh3_128_hexdigest(f"{file.sha256} {how}".encode())
        payload = {"candidates": str(file.path), _MATCH_KEY: key, "earlier": earlier.get(key)}
        tasks.append(Task(number, f"match-{file.name}", payload))
    return tasks


def _matched(folder: Path) -> dict[str, str]:
    """The matches that a selection left, by what was matched how."""
    return {
        task_result.extra[_MATCH_KEY]: str(matches_path(folder, Task(0, task_result.task, {})))
        for task_result in finished_results(folder)
        if _MATCH_KEY in task_result.extra
    }


def _compile_matcher(job: Job, settings: SelectSettings) -> None:
    """Has the kernel compiled before the workers start, so that it is done once, and says so where it takes long."""
    message = "  Compiling the matcher: once after an installation, about half a minute"
    said = threading.Timer(_COMPILES_S, job.console.print, [message])
    said.start()
    try:
        captions = pa.array(["a plain caption", *["é"] * ROWS_FOR_TABLES])
        Matcher(["a plain", "é"], settings.match).match(captions)
    finally:
        said.cancel()


def match_and_count(
    job: Job, settings: SelectSettings, folder: Path, tasks: list[Task], queries: Path, n_queries: int, n_rows: int
) -> np.ndarray:
    """Leaves matches and verdicts per file; returns N_q, int64 (Q,).

    Args:
        n_queries, n_rows: lengths of the query list and of all candidates files together.
    """
    target = folder / "pool.npy"
    sample_share = min(1.0, _SAMPLED_PAIRS / max(n_rows, 1)) if settings.target_pairs is not None else 0.0

    def write(vector: np.ndarray | None) -> None:
        with atomic_path(target) as path, path.open("wb") as file:
            np.save(file, np.zeros(n_queries, np.int64) if vector is None else vector)

    def construct(pipeline: beam.Pipeline) -> None:
        listed = pipeline | "List files" >> beam.Create(tasks, reshuffle=False)
        losers = (
            listed
            | "Spread files" >> beam.Reshuffle()
            | "Match captions" >> beam.ParDo(RunFileTask(str(folder), MatchFile(str(queries), settings)))
            | "Send pair keys"
            >> beam.ParDo(SendPairKeys(str(folder), bucket_count(n_rows))).with_output_types(tuple[int, bytes])
            | "Group pairs by URL" >> beam.GroupByKey()
            | "Choose winners" >> beam.ParDo(ChooseWinners(settings)).with_output_types(tuple[int, bytes])
        )
        every_file = listed | "Name each file" >> beam.Map(with_nothing).with_output_types(tuple[int, bytes])
        _ = (
            (losers, every_file)
            | "Join losers and files" >> beam.Flatten()
            | "Group losers by file" >> beam.GroupByKey()
            | "Write verdicts" >> beam.ParDo(WriteVerdicts(str(folder), tasks, n_queries, sample_share))
            | "Count pairs a query" >> beam.CombineGlobally(SumVectors())
            | "Write counts" >> beam.Map(write)
        )

    if any(task.payload["earlier"] is None and read_result(folder, task.name) is None for task in tasks):
        _compile_matcher(job, settings)
    with watching(job.console, "Match captions", folder, tasks, "captions"):
        run_job(job.runner, folder, construct)
    results_of(folder, tasks)
    pool: np.ndarray = np.load(target)
    return pool

"""Selection, passes 1 and 2: match every caption, choose winners among equals, count the pairs of each query."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from openwit.pipeline.common.urls import url_hashes
from openwit.pipeline.execution.blobs import bucket_count, concat_blobs, split_by, to_blob
from openwit.pipeline.execution.files import checked, is_intact
from openwit.pipeline.execution.jobs import (
    Addend,
    Emitted,
    Emitter,
    FileTask,
    Grouping,
    KeyedBlob,
    Round,
    RoundsJob,
    Streams,
    Task,
    TaskStats,
    VectorSum,
)
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.execution.tasks import finished_results, read_result, results_of
from openwit.pipeline.stages.select import SelectPaths
from openwit.pipeline.stages.select.balance import list_column, ragged
from openwit.pipeline.stages.select.dead import dead_rows
from openwit.pipeline.stages.select.hash_uniform import mix, pair_hashes
from openwit.pipeline.stages.select.layout import query_offsets
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.select.shared_matcher import (
    compile_matcher,
    share_matcher,
    shared_matcher,
    unshare_matcher,
)
from openwit.pipeline.stages.select.winners import DEAD, NO_MATCH, choose_winners
from openwit.pipeline.text.matching.matcher import Matcher
from openwit.pipeline.text.normalise import words
from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.storage.reading import copy_file
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.manifest import FileEntry
from openwit.schemas.tables.candidates import CANDIDATES, MATCHES, PAIR_SAMPLES, VERDICTS

_COLUMNS = ("text_length", "tie", "words_hash")
# Streams: keys of rows by bucket of their URL; rows that lose, and the name of every file, by file.
_KEYS, _LOSERS, _FILES = "keys", "losers", "files"
_POOL = "pool"
MATCH_VERSION = 1
"""Rises when a caption may match otherwise than before: earlier matches are then not taken over."""
# Sampled pairs to solve for a target: the error of the sum is under a third of a percent.
_SAMPLED_PAIRS = 200_000


@dataclass(frozen=True)
class MatchInput:
    """A candidates file to match.

    Attributes:
        candidates: its path.
        match_key: checksum of the file, the queries and how they are matched.
        earlier: file of matches under the same key that an earlier selection wrote; None if there is none.
    """

    candidates: str
    match_key: str
    earlier: FileEntry | None


@dataclass(frozen=True)
class MatchExtra:
    """Identify the matches of a file: see `MatchInput`."""

    match_key: str


class MatchFile(FileTask[MatchInput]):
    """Match the captions of one candidates file; write what selection needs of each row.

    If an earlier selection matched the same file with the same queries, its matches are copied.

    Args:
        queries: path of the query list; None if there is none, and no row matches anything.
    """

    def __init__(self, queries: str | None, settings: SelectSettings) -> None:
        self.queries = queries
        self.settings = settings
        self._matcher: Matcher | None = None

    def run(self, task: Task[MatchInput], folder: Path, stats: TaskStats) -> list[Path]:
        target = SelectPaths(folder).matches(task.name)
        stats.extra = MatchExtra(task.payload.match_key)
        candidates = checked(as_path(task.payload.candidates))
        earlier = task.payload.earlier
        if earlier is not None and is_intact(as_path(earlier.path), earlier):
            with atomic_path(target) as path:
                copy_file(as_path(earlier.path), path)
            return [target]
        if self._matcher is None and self.queries is not None:  # built for the first file that needs it
            self._matcher = shared_matcher(folder, as_path(self.queries), self.settings.match)
        MATCHES.write(target, self._matches(candidates, self._matcher, stats))
        return [target]

    def _matches(self, path: Path, matcher: Matcher | None, stats: TaskStats) -> Iterator[pa.Table]:
        rows = 0
        for batch in CANDIDATES.read_batches(path):
            texts = batch.column("text").combine_chunks()
            urls = batch.column("url").to_pylist()
            yield MATCHES.table(
                {
                    "pair_id": batch.column("pair_id"),
                    "url_hash": url_hashes(urls),
                    "text_length": pc.utf8_length(texts),
                    "tie": _row_hashes(batch),
                    "words_hash": self._words_hashes(texts),
                    "query_ids": no_matches(len(texts)) if matcher is None else matcher.match(texts),
                }
            )
            rows += batch.num_rows
            stats.tick(rows)

    def _words_hashes(self, texts: pa.Array) -> np.ndarray:
        """Return xxh3-64 of each text's words, sorted and each once; zeros if not needed. uint64 (N,)."""
        if self.settings.near_equal_texts == "keep":
            return np.zeros(len(texts), np.uint64)
        hashes = (xxhash.xxh3_64_intdigest(" ".join(sorted(set(words(text)))).encode()) for text in texts.to_pylist())
        return np.fromiter(hashes, np.uint64, len(texts))


def no_matches(rows: int) -> pa.ListArray:
    """Return an empty list of query ids for each row."""
    return list_column(np.zeros(0, np.int64), np.zeros(0, np.int32), rows)


def _row_hashes(batch: pa.Table) -> np.ndarray:
    """Return a hash of the provenance, which differs between equal pairs. uint64 (N,)."""
    columns = [batch.column(c).to_pylist() for c in ("text", "page_url", "archive", "record_offset", "text_source")]
    rows = ("\0".join(map(str, row)) for row in zip(*columns, strict=True))
    return np.fromiter((xxhash.xxh3_64_intdigest(row.encode()) for row in rows), np.uint64, batch.num_rows)


class SendPairKeys(Emitter[MatchInput]):
    """Matched file -> (bucket of the URL, keys of its rows that match something).

    Args:
        everything: whether rows that match nothing are sent too.
        dead: path of a list of pairs that are left out; None for none.
    """

    def __init__(self, folder: str, buckets: int, everything: bool = False, dead: str | None = None) -> None:
        self.dead = dead
        self.folder = folder
        self.buckets = buckets
        self.everything = everything

    def emit(self, task: Task[MatchInput]) -> Emitted:
        yield KeyedBlob(_FILES, task.number, task.name.encode())
        matches = MATCHES.read(SelectPaths(as_path(self.folder)).matches(task.name))
        rows = np.flatnonzero(in_pool(matches, self.everything) & ~dead_rows(self.dead, matches))
        url_hash = matches.column("url_hash").to_numpy()[rows]
        keys = pa.table(
            {
                "file": pa.array(np.full(len(rows), task.number, np.int32)),
                "row": pa.array(rows.astype(np.int64)),
                "url_hash": pa.array(url_hash),
                "pair": pa.array(pair_hashes(matches.column("pair_id").combine_chunks())[rows]),
                **{name: pa.array(matches.column(name).to_numpy()[rows]) for name in _COLUMNS},
            }
        )
        for bucket, part in split_by(keys, url_hash % np.uint64(self.buckets)):
            yield KeyedBlob(_KEYS, bucket, to_blob(part))


class ChooseWinners(Grouping):
    """(bucket, keys) -> (file, rows that lose and why)."""

    def __init__(self, settings: SelectSettings) -> None:
        self.settings = settings

    def process(self, key: int, streams: Streams) -> Emitted:  # noqa: ARG002
        keys = concat_blobs(streams[_KEYS])
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
            yield KeyedBlob(_LOSERS, file, to_blob(part))


def in_pool(matches: pa.Table, everything: bool) -> np.ndarray:
    """Return which rows of MATCHES are in the pool before winners are chosen: bool (N,).

    Args:
        everything: whether also rows that match no query are.
    """
    return np.ones(matches.num_rows, bool) if everything else np.diff(query_offsets(matches)) > 0


class WriteVerdicts(Grouping):
    """(file, its losers and its name) -> the file's verdicts on disk, and what it adds to N_q.

    Args:
        queries: number of queries; 0 without a list, and nothing is counted.
        sample_share: share of the pool's pairs, drawn by hash, whose queries are kept as a sample.
        everything: whether pairs that match no query are in the pool.
        dead: path of a list of pairs that are left out; None for none.
    """

    def __init__(
        self, folder: str, queries: int, sample_share: float, everything: bool = False, dead: str | None = None
    ) -> None:
        self.dead = dead
        self.folder = folder
        self.queries = queries
        self.sample_share = sample_share
        self.everything = everything

    def process(self, key: int, streams: Streams) -> Emitted:  # noqa: ARG002
        folder, name = as_path(self.folder), streams[_FILES][0].decode()
        matches = MATCHES.read(SelectPaths(folder).matches(name))
        verdict = np.where(in_pool(matches, self.everything), 0, NO_MATCH).astype(np.int8)
        verdict[dead_rows(self.dead, matches)] = DEAD
        if streams[_LOSERS]:
            losers = concat_blobs(streams[_LOSERS])
            verdict[losers.column("row").to_numpy()] = losers.column("verdict").to_numpy()
        VERDICTS.write(SelectPaths(folder).verdicts(name), VERDICTS.table({"verdict": verdict}))
        if self.sample_share:
            place = mix(pair_hashes(matches.column("pair_id").combine_chunks())) / 2.0**64
            sampled = pa.array((verdict == 0) & (place < self.sample_share))
            lists = matches.column("query_ids").filter(sampled)
            PAIR_SAMPLES.write(SelectPaths(folder).samples(name), PAIR_SAMPLES.table({"query_ids": lists}))
        rows, ids = ragged(matches.column("query_ids").combine_chunks())
        if self.queries:
            yield Addend(_POOL, np.bincount(ids[verdict[rows] == 0], minlength=self.queries))


class CandidatesFile(NamedTuple):
    """A file to match: where it is, the sha256 of its bytes, and the name of what is made of it."""

    path: Path
    sha256: str
    name: str


def match_tasks(
    files: Sequence[CandidatesFile], queries_sha256: str, settings: SelectSettings, reuse: Path | None
) -> list[Task[MatchInput]]:
    """Return one task per candidates file.

    Args:
        files: in the order of the tasks.
        queries_sha256: of the query list; empty without one.
        settings: how to match.
        reuse: folder of an earlier selection; files that it matched in the same way are not matched again.
    """
    earlier = _matched(reuse) if reuse is not None else {}
    how = f"{queries_sha256} {settings.match} {settings.near_equal_texts} {MATCHES.version} {MATCH_VERSION}"
    tasks = []
    for number, file in enumerate(files):
        key = xxhash.xxh3_128_hexdigest(f"{file.sha256} {how}".encode())
        tasks.append(Task(number, f"match-{file.name}", MatchInput(str(file.path), key, earlier.get(key))))
    return tasks


def _matched(folder: Path) -> dict[str, FileEntry]:
    """Return the files of matches that a selection wrote, with their whole paths, by their key."""
    return {
        result.extra_as(MatchExtra).match_key: file.model_copy(update={"path": str(folder / file.path)})
        for result in finished_results(folder)
        if result.extra
        for file in result.files
    }


def match_and_count(
    job: Job,
    settings: SelectSettings,
    folder: Path,
    tasks: list[Task[MatchInput]],
    queries: Path | None,
    n_queries: int,
    n_rows: int,
    dead: str | None = None,
) -> np.ndarray:
    """Write matches and verdicts per file; return N_q, int64 (Q,).

    Args:
        queries: the query list; None without one.
        dead: path of a list of pairs that are left out; None for none.
        n_queries, n_rows: lengths of the query list and of all candidates files together.
    """
    sample_share = min(1.0, _SAMPLED_PAIRS / max(n_rows, 1)) if settings.target_pairs is not None else 0.0
    rounds_job = match_job(settings, folder, tasks, queries, n_queries, n_rows, sample_share, dead)
    open_ = sum(task.payload.earlier is None and read_result(folder, task.name) is None for task in tasks)
    if queries is None:
        pass
    elif open_ > 1:
        share_matcher(folder, queries, settings.match)
    elif open_:
        compile_matcher(settings.match)
    sums = job.run_rounds(folder, rounds_job, "captions")
    results_of(folder, tasks)
    unshare_matcher(folder)
    return sums[_POOL] if n_queries else np.zeros(0, np.int64)


def match_job(
    settings: SelectSettings,
    folder: Path,
    tasks: list[Task[MatchInput]],
    queries: Path | None,
    n_queries: int,
    n_rows: int,
    sample_share: float = 0.0,
    dead: str | None = None,
) -> RoundsJob[MatchInput]:
    """Return the tasks and rounds of passes 1 and 2; see `match_and_count` and `WriteVerdicts`."""
    everything = settings.balance == "all"
    write = WriteVerdicts(str(folder), n_queries, sample_share, everything, dead)
    return RoundsJob(
        "Match captions",
        tasks,
        SendPairKeys(str(folder), bucket_count(n_rows), everything, dead),
        (_KEYS, _FILES),
        [
            Round("Choose winners", (_KEYS,), ChooseWinners(settings), (_LOSERS,)),
            Round("Write verdicts", (_LOSERS, _FILES), write),
        ],
        file_task=MatchFile(None if queries is None else str(queries), settings),
        sums=(VectorSum(_POOL, n_queries),) if n_queries else (),
    )

"""Count the terms of dumps and page views in one job: tasks count their part, a shuffle adds the parts up.

Equal terms meet in a bucket, where the floors are applied: rare terms are never sent to the driver.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from openwit.pipeline.common.ranges import divisible_size, path_or_ranges
from openwit.pipeline.execution.blobs import concat_blobs, split_by, to_blob
from openwit.pipeline.execution.bucket_files import bucket_path, bucket_paths, written_bucket, written_buckets
from openwit.pipeline.execution.jobs import (
    Emitted,
    Emitter,
    FileTask,
    Grouping,
    KeyedBlob,
    Round,
    RoundsJob,
    Streams,
    Task,
    TaskResult,
    TaskStats,
    counting,
)
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.execution.tasks import results_of
from openwit.pipeline.readers.crawl.archive_file import Source
from openwit.pipeline.readers.wikipedia.boilerplate import without_identifiers
from openwit.pipeline.readers.wikipedia.cirrusdump import CIRRUS_REASONS, is_cirrus, read_cirrus
from openwit.pipeline.readers.wikipedia.pageviews import LINES, LINES_ADDED, VIEW_REASONS, sum_views
from openwit.pipeline.readers.wikipedia.wikidump import ARTICLE_REASONS, PAGES, read_articles
from openwit.pipeline.readers.wikipedia.wikitext import link_targets, plain_text
from openwit.pipeline.stages.queries.ngrams import TermCounter
from openwit.pipeline.stages.queries.settings import QuerySettings
from openwit.pipeline.stages.queries.sources import title_text
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.storage.remote import is_remote, local_copy
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.queries import TERM_COUNTS

PAGES_STEP = "articles/pages"
VIEWS_STEP = "pageviews/lines"
WORD, BIGRAM, TITLE, LINK, POPULARITY, VIEWS = "word", "bigram", "title", "link", "popularity", "views"
_KINDS = (WORD, BIGRAM, TITLE, LINK, POPULARITY, VIEWS)
POPULARITY_UNIT = 1e-12
"""A popularity score is a share of all page views; it is summed as a whole number of this unit."""

_TAKEN = "taken"
_BUCKETS = 64
_COUNTS = "counts"
# Distinct terms held in memory before they are written out; equal terms are summed later.
_FLUSH_AT = 2_000_000


@dataclass(frozen=True)
class DumpPart:
    """A part of a dump: bytes `start` to `end` of a multistream file, `end` None for its last part."""

    dump: str
    start: int
    end: int | None


@dataclass(frozen=True)
class ViewsFile:
    """A page views file."""

    views: str


CountInput = DumpPart | ViewsFile


@dataclass(frozen=True)
class Sums:
    """The counts of all files together.

    Attributes:
        words, bigrams: occurrences of those that reach the floor.
        titles: names of articles.
        links: to an article of that name, from the articles counted.
        popularity: share of page views according to the dump.
        views: of the page views files, of names that reach the floor.
        below_floor: number of terms below their floor, by kind.
        tokens: words counted in all.
    """

    words: dict[str, int]
    bigrams: dict[str, int]
    titles: dict[str, int]
    links: dict[str, int]
    popularity: dict[str, int]
    views: dict[str, int]
    below_floor: Counter[str]
    tokens: int


def plan(settings: QuerySettings, dumps: list[str], views: list[str]) -> list[Task[CountInput]]:
    """Return the tasks: one per part of a dump (multistream dumps are read in parallel) and per page views file."""
    payloads: list[CountInput] = []
    for dump in dumps:
        size = 0
        if ".bz2" in dump.lower():
            size = (divisible_size(dump) or 0) if is_remote(dump) else Path(dump).stat().st_size
        parts = max(1, -(-size // settings.part_bytes))
        edges = [size * n // parts for n in range(parts)]
        payloads += [DumpPart(dump, start, end) for start, end in zip(edges, [*edges[1:], None], strict=True)]
    payloads += [ViewsFile(path) for path in views]
    return [Task(n, f"{n:05d}", payload) for n, payload in enumerate(payloads)]


class CountTerms(FileTask[CountInput]):
    """Count the words, bigrams, titles and links of a part of a dump, or the views of a file."""

    def __init__(self, settings: QuerySettings) -> None:
        self.settings = settings

    def run(self, task: Task[CountInput], folder: Path, stats: TaskStats) -> list[Path]:
        target = folder / "counts" / f"{task.name}.parquet"
        part = task.payload
        counts = self._views(part, stats) if isinstance(part, ViewsFile) else self._dump(part, stats)
        TERM_COUNTS.write(target, counts)
        return [target]

    def _views(self, part: ViewsFile, stats: TaskStats) -> Iterator[pa.Table]:
        stats.enter(VIEWS_STEP, 0)
        count = counting(stats, VIEWS_STEP, LINES, VIEW_REASONS, LINES_ADDED)
        with local_copy(part.views) as path:
            sums = sum_views(path, self.settings.language, count=count)
        views = Counter[str]()
        match = self.settings.match or "words"
        for title, n in sums.items():
            views[title_text(title, match)] += n
        yield _table(VIEWS, views)

    def _dump(self, part: DumpPart, stats: TaskStats) -> Iterator[pa.Table]:
        terms = TermCounter(self.settings.bigrams is not None)
        names = {kind: Counter[str]() for kind in (TITLE, LINK, POPULARITY)}
        is_whole = part.start == 0 and part.end is None
        with local_copy(part.dump) if is_whole else path_or_ranges(part.dump) as source:
            for number, text in enumerate(self._texts(source, part, names, stats), 1):
                terms.add(text)
                stats.tick(number)
                if len(terms) > _FLUSH_AT:
                    yield from _flush(terms, stats)
                    terms = TermCounter(self.settings.bigrams is not None)
        yield from _flush(terms, stats)
        for kind, counts in names.items():
            yield _table(kind, counts)

    def _texts(
        self, source: Source, part: DumpPart, names: dict[str, Counter[str]], stats: TaskStats
    ) -> Iterator[str]:
        """Yield the running text of each article; fill in what is known of names."""
        stats.enter(PAGES_STEP, 0)
        match = self.settings.match or "words"
        if is_cirrus(source):
            count = counting(stats, PAGES_STEP, PAGES, CIRRUS_REASONS, _TAKEN)
            for page in read_cirrus(source, count) if not part.start else ():
                count(_TAKEN)
                name = title_text(page.title, match)
                names[TITLE][name] += 1
                names[LINK][name] += page.incoming_links or 0
                names[POPULARITY][name] += round((page.popularity or 0) / POPULARITY_UNIT)
                yield without_identifiers(page.text, "\n")
            return
        count = counting(stats, PAGES_STEP, PAGES, ARTICLE_REASONS, _TAKEN)
        for article in read_articles(source, count, start=part.start, end=part.end):
            count(_TAKEN)
            names[TITLE][title_text(article.title, match)] += 1
            if self.settings.titles:
                names[LINK].update(title_text(target, match) for target in link_targets(article.text))
            yield plain_text(article.text)


def _flush(terms: TermCounter, stats: TaskStats) -> Iterator[pa.Table]:
    words = terms.words
    stats.counters["tokens"] += words.total()
    yield _table(WORD, words)
    yield _table(BIGRAM, terms.bigrams)


def _table(kind: str, counts: Counter[str]) -> pa.Table:
    table = pa.table({"term": pa.array(counts.keys(), pa.string()), "count": pa.array(counts.values(), pa.int64())})
    table = table.filter((pc.field("term") != "") & (pc.field("count") > 0)).sort_by("term")
    kinds = pa.repeat(kind, table.num_rows)
    return TERM_COUNTS.table({"kind": kinds, "term": table.column("term"), "count": table.column("count")})


class SendCounts(Emitter[CountInput]):
    """Counted part -> (bucket of terms, their partial counts)."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def emit(self, task: Task[CountInput]) -> Emitted:
        for batch in TERM_COUNTS.read_batches(as_path(self.folder) / "counts" / f"{task.name}.parquet"):
            terms = batch.column("term").to_pylist()
            buckets = np.fromiter(
                (xxhash.xxh3_64_intdigest(t.encode()) % _BUCKETS for t in terms), np.int64, len(terms)
            )
            for bucket, part in split_by(batch, buckets):
                yield KeyedBlob(_COUNTS, bucket, to_blob(part))


class SumCounts(Grouping):
    """(bucket, partial counts) -> a file of the terms that reach their floor, and how many did not."""

    def __init__(self, folder: str, floors: dict[str, int]) -> None:
        self.folder = folder
        self.floors = floors

    def process(self, key: int, streams: Streams) -> Emitted:
        sums = concat_blobs(streams[_COUNTS]).group_by(["kind", "term"]).aggregate([("count", "sum")])
        sums = sums.rename_columns(["kind", "term", "count"]).sort_by([("kind", "ascending"), ("term", "ascending")])
        sums = _of_named(sums)
        floor = np.array([self.floors.get(k, 1) for k in sums.column("kind").to_pylist()])
        enough = sums.column("count").to_numpy() >= floor
        below = Counter(sums.filter(pa.array(~enough)).column("kind").to_pylist())
        kept = sums.filter(pa.array(enough))
        target = bucket_path(as_path(self.folder) / "sums", key)
        TERM_COUNTS.write(target, TERM_COUNTS.table({name: kept.column(name) for name in kept.column_names}))
        atomic_write(target.with_suffix(".json"), json.dumps(dict(sorted(below.items()))))
        yield written_bucket(key, _BUCKETS)


def _of_named(sums: pa.Table) -> pa.Table:
    """Drop the links to names that no article has: red links, redirects, other namespaces."""
    kind = sums.column("kind")
    titles = pc.filter(sums.column("term"), pc.equal(kind, TITLE))
    return sums.filter(pc.or_(pc.not_equal(kind, LINK), pc.is_in(sums.column("term"), value_set=titles)))


def count_terms(
    job: Job, settings: QuerySettings, folder: Path, tasks: list[Task[CountInput]]
) -> tuple[list[TaskResult], Sums]:
    """Run the counting job; return the results of its tasks, and the sums."""
    for old in (folder / "sums").glob("*"):
        old.unlink()

    rounds_job = counts_job(settings, folder, tasks)
    written = bucket_paths(folder / "sums", job.run_rounds(folder, rounds_job, "articles"))
    results = results_of(folder, tasks)
    return results, _read_sums(written, sum(result.counters.get("tokens", 0) for result in results))


def counts_job(settings: QuerySettings, folder: Path, tasks: list[Task[CountInput]]) -> RoundsJob[CountInput]:
    """Return the tasks that count, and the round that adds their counts up."""
    # A word below the list's floor is still needed for the PMI of a bigram above its own.
    word_floor = min(settings.min_count, settings.bigrams.min_count) if settings.bigrams else settings.min_count
    bigram_floor = settings.bigrams.min_count if settings.bigrams else 1
    floors = {WORD: word_floor, BIGRAM: bigram_floor, VIEWS: settings.min_views}
    return RoundsJob(
        "Count words and bigrams",
        tasks,
        SendCounts(str(folder)),
        (_COUNTS,),
        [Round("Sum counts", (_COUNTS,), SumCounts(str(folder), floors))],
        file_task=CountTerms(settings),
        sums=(written_buckets(_BUCKETS),),
    )


def _read_sums(files: list[Path], tokens: int) -> Sums:
    kinds: dict[str, dict[str, int]] = {kind: {} for kind in _KINDS}
    below = Counter[str]()
    for path in files:
        table = TERM_COUNTS.read(path)
        for kind, sums in kinds.items():
            part = table.filter(pc.equal(table.column("kind"), kind))
            sums.update(zip(part.column("term").to_pylist(), part.column("count").to_pylist(), strict=True))
        below.update(json.loads(path.with_suffix(".json").read_text()))
    return Sums(kinds[WORD], kinds[BIGRAM], kinds[TITLE], kinds[LINK], kinds[POPULARITY], kinds[VIEWS], below, tokens)

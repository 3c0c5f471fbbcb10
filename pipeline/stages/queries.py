"""Queries: the allowlist of words, bigrams, article titles and synsets (paper section 2.2)."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline.columnar.files import file_entry
from pipeline.columnar.inputs import expand_inputs
from pipeline.columnar.progress import watching
from pipeline.columnar.stage import Job, Outcome, StageManifest, file_inputs, run_stage
from pipeline.columnar.tables import concat_blobs, split_by, to_blob
from pipeline.columnar.tasks import DoOnce, FileWork, Receipt, Tally, Task, counting, receipts_of, run_job
from pipeline.recipe import QuerySettings
from pipeline.text.ngrams import TermCounter
from pipeline.text.normalise import normalise
from pipeline.text.query_list import Entry, QueryList, add_bigrams
from pipeline.text.query_sources import read_query_table, read_wordnet, title_query
from pipeline.text.wikitext import plain_text
from pipeline.web.wikidump import ARTICLE_REASONS, PAGES, read_articles
from schemas.atomic import atomic_write
from schemas.errors import UserError
from schemas.manifest import FunnelStep
from schemas.queries import QUERIES, SOURCES, TERM_COUNTS

NAME = "queries"
PAGES_STEP = "articles/pages"
VERSION = 1
QUERY_FILE = "queries.parquet"
_TERM_BUCKETS = 64
# Distinct terms held in memory before they are written out; equal terms are summed later.
_FLUSH_AT = 2_000_000


def run(job: Job, settings: QuerySettings, folder: Path) -> tuple[StageManifest, bool]:
    """Runs the stage; leaves `queries.parquet` in the folder."""
    dumps = expand_inputs(settings.wikipedia, "queries.wikipedia")
    tables = expand_inputs(settings.tables, "queries.tables")
    wordnet = [settings.wordnet] if settings.wordnet else []
    return run_stage(
        job,
        folder,
        NAME,
        VERSION,
        settings.model_dump(mode="json"),
        file_inputs([*dumps, *tables, *wordnet]),
        lambda: _body(job, settings, dumps, tables, folder),
    )


def _body(job: Job, settings: QuerySettings, dumps: list[str], tables: list[str], folder: Path) -> Outcome:
    queries = QueryList(settings.max_words)
    outcome = Outcome()
    if dumps:
        receipts = _count_dumps(job, settings, folder, dumps)
        outcome.add_receipts(receipts, [PAGES_STEP])
        _add_corpus(queries, settings, folder, receipts)
    if settings.wordnet:
        for lemma in read_wordnet(Path(settings.wordnet)):
            queries.add(lemma, Entry("synset"))
    for path in tables:
        for query in read_query_table(Path(path)):
            queries.add(query, Entry("table"))
    table = queries.table(settings.limit)
    if table.num_rows == 0:
        raise UserError("the query list is empty: lower queries.min_count or name another source")
    QUERIES.write(folder / QUERY_FILE, table)
    outcome.files.append(file_entry(folder, folder / QUERY_FILE))
    by_source = Counter(table.column("source").to_pylist())
    outcome.funnel.append(
        FunnelStep(
            stage=NAME,
            unit="terms",
            rows_in=queries.offered,
            rows_out=table.num_rows,
            reasons={reason: n for reason, n in sorted(queries.reasons.items()) if n},
        )
    )
    outcome.extra = {"by_source": {s: by_source[s] for s in SOURCES if by_source[s]}, "examples": _examples(table)}
    return outcome


class CountDump(FileWork):
    """Counts the words, bigrams and titles of one dump file."""

    def __init__(self, bigrams: bool) -> None:
        self.bigrams = bigrams

    def do(self, task: Task, folder: Path, tally: Tally) -> list[Path]:
        target = folder / "counts" / f"{task.name}.parquet"
        TERM_COUNTS.write(target, self._count(task.payload["dump"], tally))
        return [target]

    def _count(self, dump: str, tally: Tally) -> Iterator[pa.Table]:
        counter, titles = TermCounter(self.bigrams), Counter[str]()

        count = counting(tally, PAGES_STEP, PAGES, ARTICLE_REASONS)
        tally.enter(PAGES_STEP, 0)

        for number, article in enumerate(read_articles(dump, count), 1):
            tally.leave(PAGES_STEP)
            counter.add(plain_text(article.text))
            titles[normalise(title_query(article.title))] += 1
            tally.tick(number)
            if len(counter) > _FLUSH_AT:
                yield from self._flush(counter, tally)
                counter = TermCounter(self.bigrams)
        yield from self._flush(counter, tally)
        yield _term_table("title", titles)

    @staticmethod
    def _flush(counter: TermCounter, tally: Tally) -> Iterator[pa.Table]:
        tally.counters["tokens"] += counter.words.total()
        yield _term_table("word", counter.words)
        yield _term_table("bigram", counter.bigrams)


def _term_table(kind: str, counts: Counter[str]) -> pa.Table:
    terms = sorted(term for term in counts if term)
    return TERM_COUNTS.table({"kind": [kind] * len(terms), "term": terms, "count": [counts[t] for t in terms]})


class SendCounts(beam.DoFn):
    """(task, receipt) of a counted dump -> (bucket of terms, their partial counts)."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(self, element: tuple[Task, Receipt]) -> Iterator[tuple[int, bytes]]:
        task, _ = element
        for batch in TERM_COUNTS.read_batches(Path(self.folder) / "counts" / f"{task.name}.parquet"):
            terms = batch.column("term").to_pylist()
            buckets = np.fromiter(
                (xxhash.xxh3_64_intdigest(t.encode()) % _TERM_BUCKETS for t in terms), np.int64, len(terms)
            )
            for bucket, part in split_by(batch, buckets):
                yield bucket, to_blob(part)


class SumCounts(beam.DoFn):
    """(bucket, partial counts) -> a file of the terms that reach their floor, and how many did not."""

    def __init__(self, folder: str, floors: dict[str, int]) -> None:
        self.folder = folder
        self.floors = floors

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[int]:
        bucket, blobs = element
        sums = concat_blobs(list(blobs)).group_by(["kind", "term"]).aggregate([("count", "sum")])
        sums = sums.rename_columns(["kind", "term", "count"]).sort_by([("kind", "ascending"), ("term", "ascending")])
        floor = np.array([self.floors[k] for k in sums.column("kind").to_pylist()])
        enough = sums.column("count").to_numpy() >= floor
        below = Counter(sums.filter(pa.array(~enough)).column("kind").to_pylist())
        kept = sums.filter(pa.array(enough))
        target = Path(self.folder) / "sums" / f"{bucket:05d}.parquet"
        TERM_COUNTS.write(target, TERM_COUNTS.table({name: kept.column(name) for name in kept.column_names}))
        atomic_write(target.with_suffix(".json"), json.dumps(dict(sorted(below.items()))))
        yield bucket


def _count_dumps(job: Job, settings: QuerySettings, folder: Path, dumps: list[str]) -> list[Receipt]:
    tasks = [Task(n, f"{n:05d}", {"dump": dump}) for n, dump in enumerate(dumps)]
    # A word below the list's floor is still needed for the PMI of a bigram above its own.
    word_floor = min(settings.min_count, settings.bigrams.min_count) if settings.bigrams else settings.min_count
    floors = {"word": word_floor, "bigram": settings.bigrams.min_count if settings.bigrams else 1, "title": 1}
    for old in (folder / "sums").glob("*"):
        old.unlink()

    def construct(pipeline: beam.Pipeline) -> None:
        _ = (
            pipeline
            | "List dumps" >> beam.Create(tasks, reshuffle=False)
            | "Spread dumps" >> beam.Reshuffle()
            | "Count terms" >> beam.ParDo(DoOnce(str(folder), CountDump(settings.bigrams is not None)))
            | "Send counts" >> beam.ParDo(SendCounts(str(folder))).with_output_types(tuple[int, bytes])
            | "Group counts by term" >> beam.GroupByKey()
            | "Sum counts" >> beam.ParDo(SumCounts(str(folder), floors))
        )

    with watching(job.console, "Count words and bigrams", folder, tasks, "articles"):
        run_job(job.runner, folder, construct)
    return receipts_of(folder, tasks)


def _add_corpus(queries: QueryList, settings: QuerySettings, folder: Path, receipts: list[Receipt]) -> None:
    total = sum(receipt.counters.get("tokens", 0) for receipt in receipts)
    words: dict[str, int] = {}
    bigrams: list[tuple[str, int]] = []
    titles: list[tuple[str, int]] = []
    for path in sorted((folder / "sums").glob("*.parquet")):
        table = TERM_COUNTS.read(path)
        for kind, kept in (("word", words.update), ("bigram", bigrams.extend), ("title", titles.extend)):
            part = table.filter(pc.equal(table.column("kind"), kind))
            kept(zip(part.column("term").to_pylist(), part.column("count").to_pylist(), strict=True))
        for n in json.loads(path.with_suffix(".json").read_text()).values():
            queries.refuse("below_min_count", n)
    for word, count in words.items():
        if count < settings.min_count:
            queries.refuse("below_min_count")
        else:
            queries.add(word, Entry("word", count=count))
    if settings.bigrams:
        add_bigrams(queries, bigrams, words, total, settings.bigrams.min_pmi)
    if settings.titles:
        for title, _ in titles:
            queries.add(title, Entry("title"))


def _examples(table: pa.Table) -> dict[str, list[str]]:
    """The first and last entries of each source, to be looked at."""
    examples = {}
    for source in SOURCES:
        part = table.filter(pc.equal(table.column("source"), source)).column("query").to_pylist()
        if part:
            examples[source] = part if len(part) <= 10 else [*part[:5], "…", *part[-5:]]
    return examples

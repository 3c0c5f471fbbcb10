"""Queries: the allowlist of words, bigrams, article titles and synsets (paper section 2.2)."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.common.reasons import unique
from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.stage import Job, StageResult, file_inputs
from openwit.pipeline.readers.inputs import expand_inputs
from openwit.pipeline.readers.wikipedia.cirrusdump import CIRRUS_REASONS
from openwit.pipeline.readers.wikipedia.pageviews import VIEW_REASONS
from openwit.pipeline.readers.wikipedia.wikidump import ARTICLE_REASONS
from openwit.pipeline.stages.queries import Queries, QueriesPaths
from openwit.pipeline.stages.queries.counts import (
    PAGES_STEP,
    POPULARITY_UNIT,
    VIEWS_STEP,
    Sums,
    count_terms,
    plan,
)
from openwit.pipeline.stages.queries.query_list import Entry, QueryList, add_bigrams
from openwit.pipeline.stages.queries.reasons import BELOW_MIN_COUNT, BELOW_MIN_VIEWS, TERM_REASONS
from openwit.pipeline.stages.queries.settings import BUILTIN_WORDNET, QuerySettings
from openwit.pipeline.stages.queries.sources import builtin_wordnet, read_query_table, read_wordnet
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.manifest import FunnelStep
from openwit.schemas.tables.queries import MATCH_NOTE, QUERIES, SOURCES

BY_VIEWS, BY_POPULARITY, BY_LINKS = "page views", "the dump's popularity score", "links from other articles"
"""What titles may be ranked by."""

QUERIES_REASONS = unique(ARTICLE_REASONS, CIRRUS_REASONS, VIEW_REASONS, TERM_REASONS)
"""Every reason for which the stage drops a page, a line of page views or a term."""


def source_identity(settings: QuerySettings) -> dict[str, str]:
    """Return the identity of the files that the settings name."""
    wordnet = [settings.wordnet] if settings.wordnet not in (None, BUILTIN_WORDNET) else []
    return file_inputs([*_dumps(settings), *_views(settings), *_tables(settings), *wordnet])


def _dumps(settings: QuerySettings) -> list[str]:
    return expand_inputs(settings.wikipedia, "queries.wikipedia")


def _views(settings: QuerySettings) -> list[str]:
    return expand_inputs(settings.pageviews, "queries.pageviews")


def _tables(settings: QuerySettings) -> list[str]:
    return expand_inputs(settings.tables, "queries.tables")


def make_queries(job: Job, settings: QuerySettings, folder: Path) -> StageResult:
    """Write `queries.parquet`, the query list."""
    dumps, views, tables = _dumps(settings), _views(settings), _tables(settings)
    target = QueriesPaths(folder).queries
    match = settings.match or "words"
    queries = QueryList(settings.max_words, match)
    result = StageResult()
    if dumps or views:
        results, sums = count_terms(job, settings, folder, plan(settings, dumps, views))
        steps = [
            step for step in (PAGES_STEP, VIEWS_STEP) if any(step in task_result.steps for task_result in results)
        ]
        result.add_results(results, steps)
        _add_corpus(queries, settings, sums)
        if settings.titles:
            result.extra["titles_ranked_by"] = _add_titles(queries, sums, bool(views))
    if settings.wordnet:
        is_builtin = settings.wordnet == BUILTIN_WORDNET
        for lemma in builtin_wordnet() if is_builtin else read_wordnet(Path(settings.wordnet)):
            queries.add(lemma, Entry("synset"))
    for path in tables:
        for query in read_query_table(Path(path)):
            queries.add(query, Entry("table"))
    table = queries.table(settings.limit)
    if table.num_rows == 0:
        raise RecipeError("the query list is empty: lower queries.min_count or name another source")
    QUERIES.write(target, table, notes={MATCH_NOTE: match})
    result.files.append(file_entry(folder, target))
    result.funnel.append(
        FunnelStep(
            stage=Queries.name,
            unit="terms",
            rows_in=queries.offered,
            rows_out=table.num_rows,
            reasons={reason: n for reason, n in sorted(queries.reasons.items()) if n},
        )
    )
    by_source = Counter(table.column("source").to_pylist())
    result.extra["match"] = match
    result.extra["by_source"] = {s: by_source[s] for s in SOURCES if by_source[s]}
    result.extra["examples"] = _examples(table)
    return result


def _add_corpus(queries: QueryList, settings: QuerySettings, sums: Sums) -> None:
    queries.refuse(BELOW_MIN_COUNT, sums.below_floor["word"] + sums.below_floor["bigram"])
    queries.refuse(BELOW_MIN_VIEWS, sums.below_floor["views"])
    for word, count in sums.words.items():
        if count < settings.min_count:
            queries.refuse(BELOW_MIN_COUNT)
        else:
            queries.add(word, Entry("word", count=count))
    if settings.bigrams:
        bigrams = settings.bigrams
        add_bigrams(queries, sums.bigrams, sums.words, sums.tokens, bigrams.min_pmi, bigrams.top)


def _add_titles(queries: QueryList, sums: Sums, has_views: bool) -> str:
    """Offer the titles; return what they are ranked by.

    If there are page views, only they decide: a name that people look for counts whether or not the available part of
    the dump holds its article (it may be a redirect, as "USA" is).
    """
    if has_views:
        for title, n in sums.views.items():
            queries.add(title, Entry("title", count=sums.links.get(title), views=n, rank=float(n)))
        return BY_VIEWS
    for title in sums.titles:
        links, share = sums.links.get(title, 0), sums.popularity.get(title, 0) * POPULARITY_UNIT
        queries.add(title, Entry("title", count=links, rank=share if sums.popularity else float(links)))
    return BY_POPULARITY if sums.popularity else BY_LINKS


def _examples(table: pa.Table) -> dict[str, list[str]]:
    """Return the first and last entries of each source, for inspection."""
    examples = {}
    for source in SOURCES:
        part = table.filter(pc.equal(table.column("source"), source)).column("query").to_pylist()
        if part:
            examples[source] = part if len(part) <= 10 else [*part[:5], "…", *part[-5:]]
    return examples

"""Define the commands of the stages that find pairs: queries, candidates, select."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openwit.pipeline.cli.option_groups import grouped
from openwit.pipeline.cli.options import BEAM_FLAGS, JobFlags, Out, Sets, run_stage_command
from openwit.pipeline.stages.base import InputMap
from openwit.pipeline.stages.limits import LARGEST_CAP, LARGEST_SEED, MOST_QUERIES
from openwit.pipeline.stages.select.settings import BalanceMode
from openwit.pipeline.text.matching.settings import MatchMode
from openwit.schemas.common.command import examples, make_console, path_or_url


def add_commands(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(
        context_settings=BEAM_FLAGS,
        epilog=examples("wit queries --wikipedia 'enwiki-*.xml*.bz2' --wordnet builtin --out out/queries"),
    )(queries)
    app.command(
        context_settings=BEAM_FLAGS,
        epilog=examples("wit candidates --input 'crawl/*.warc.gz' --out out/candidates --set language.languages=[en]"),
    )(candidates)
    app.command(
        context_settings=BEAM_FLAGS,
        epilog=examples(
            "wit select --candidates out/candidates --queries out/queries --out out/selected --cap 20000",
            "wit select --candidates out/old --candidates out/new --queries out/queries \\",
            "    --reuse out/selected --out out/selected2",
            "wit select --candidates out/candidates --balance all --out out/selected",
        ),
    )(select)


@grouped
def queries(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=path_or_url,
            metavar="FOLDER|URL",
            help="Folder to write; the list is queries.parquet in it.",
        ),
    ],
    wikipedia: Annotated[
        list[str] | None,
        typer.Option("--wikipedia", help="Wikipedia dump: pages-articles or CirrusSearch. Repeatable."),
    ] = None,
    pageviews: Annotated[
        list[str] | None, typer.Option("--pageviews", help="File of page views, which rank the titles. Repeatable.")
    ] = None,
    wordnet: Annotated[
        str | None, typer.Option("--wordnet", help="WordNet's dict folder, or builtin for the bundled lemmas.")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="Your own query list: one query per line, or a table. Repeatable."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, max=MOST_QUERIES, help="Maximum number of queries.")
    ] = None,
    match: Annotated[
        MatchMode | None,
        typer.Option("--match", help="As select will match: words fold case and spelling, metaclip keeps them."),
    ] = None,
    sets: Sets = None,
    *,
    job: JobFlags,
) -> None:
    """Make the query list: words, bigrams, titles and synsets."""
    from openwit.pipeline.cli.report import print_examples

    sources = {"wikipedia": wikipedia, "pageviews": pageviews, "wordnet": wordnet, "tables": table}
    flags = {**sources, "limit": limit, "match": match}
    done = run_stage_command("queries", job, {}, out, flags=flags, sets=sets)
    print_examples(make_console(), done.manifest)


@grouped
def candidates(
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input", help="Crawl archive, table, tar, list of URLs, folder or dataset; globs, URLs. Repeatable."
        ),
    ],
    out: Out,
    sets: Sets = None,
    *,
    job: JobFlags,
) -> None:
    """Read (image, text) pairs of crawls, tables, tars and more."""
    from openwit.pipeline.cli.report import print_damage, print_extraction_stats

    done = run_stage_command("candidates", job, {}, out, flags={"inputs": inputs}, sets=sets)
    print_extraction_stats(make_console(), done.manifest.counters)
    print_damage(make_console(), done.manifest, out)


@grouped
def select(
    candidates: Annotated[
        list[Path],
        typer.Option(
            "--candidates",
            parser=path_or_url,
            metavar="FOLDER|URL",
            help="Folder that `wit candidates` wrote. Repeatable.",
        ),
    ],
    out: Out,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            parser=path_or_url,
            metavar="FOLDER|URL",
            help="Query list (queries.parquet), or the folder that `wit queries` wrote; optional with --balance all.",
        ),
    ] = None,
    cap: Annotated[
        int | None,
        typer.Option(
            "--cap", min=1, max=LARGEST_CAP, help="Maximum pairs drawn per query (t in the paper) [default: 20000]."
        ),
    ] = None,
    balance: Annotated[
        BalanceMode | None, typer.Option("--balance", help="Exactly the cap per query, MetaCLIP's rule, or all pairs.")
    ] = None,
    match: Annotated[
        MatchMode | None, typer.Option("--match", help="Whole words of any script, or as MetaCLIP matches.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Random seed of the balancing draw.")
    ] = None,
    reuse: Annotated[
        Path | None,
        typer.Option(
            "--reuse",
            parser=path_or_url,
            metavar="FOLDER|URL",
            help="Earlier selection whose matches are reused for the candidates it has seen.",
        ),
    ] = None,
    sets: Sets = None,
    *,
    job: JobFlags,
) -> None:
    """Match captions with queries and draw pairs up to the cap."""
    flags = {"cap": cap, "balance": balance, "match": match, "seed": seed}
    inputs: InputMap = {
        "candidates": candidates,
        "queries": [queries] if queries else [],
        "reuse": [reuse] if reuse else [],
    }
    run_stage_command("select", job, inputs, out, flags=flags, sets=sets)

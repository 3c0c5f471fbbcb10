"""`wit`: builds a WebImageText dataset. Beam is imported by the commands that run it, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from openwit.pipeline.cli import dataset as cli_dataset
from openwit.pipeline.cli.options import BEAM_FLAGS as _BEAM_FLAGS
from openwit.pipeline.cli.options import Input, Out, Replace, RunnerName, Sets, Workers
from openwit.pipeline.cli.options import make_job as _job
from openwit.pipeline.cli.options import make_settings as _settings
from openwit.pipeline.cli.options import report as _report
from openwit.pipeline.cli.start import add_commands as add_start_commands
from openwit.schemas.common.command import Version, entry_point

app = typer.Typer(
    help="Builds WebImageText datasets: queries, candidates, select, fetch, dedup, shard, card.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root(version: Version = False) -> None:
    pass


RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="ask again for images that failed for reasons that pass")
]


@app.command(context_settings=_BEAM_FLAGS)
def build(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="recipe in YAML", metavar="RECIPE.yaml")],
    workdir: Annotated[Path | None, typer.Option("--workdir", help="folder of the build [default: out/NAME]")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="URL for the dataset [default: dataset/ in the workdir]")
    ] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="stage.key=value; repeatable")] = None,
    runner: RunnerName = "local",
    workers: Workers = 1,
    replace: Replace = False,
    retry_failed: RetryFailed = False,
) -> None:
    """Builds a dataset from a recipe; run again after a stop, it goes on where it was.

    Example: wit build workflows/demo/recipe.yaml --workdir out/demo --set select.cap=100
    Flags of the Beam runner follow after --.
    """
    from openwit.pipeline.recipe import load_recipe

    loaded = load_recipe(recipe, sets or [])
    job = _job(runner, workers, replace, context)
    from openwit.pipeline.build import build as run_build

    run_build(loaded, workdir or Path("out") / loaded.name, job, retry_failed, dataset)


@app.command(context_settings=_BEAM_FLAGS)
def queries(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="folder to write; holds queries.parquet")],
    wikipedia: Annotated[
        list[str] | None, typer.Option("--wikipedia", help="pages-articles or CirrusSearch dump; repeatable")
    ] = None,
    pageviews: Annotated[list[str] | None, typer.Option("--pageviews", help="page views file; repeatable")] = None,
    wordnet: Annotated[str | None, typer.Option("--wordnet", help="WordNet's dict folder")] = None,
    table: Annotated[list[str] | None, typer.Option("--table", help="list of one's own; repeatable")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="at most so many queries")] = None,
    sets: Sets = None,
    runner: RunnerName = "local",
    workers: Workers = 1,
    replace: Replace = False,
) -> None:
    """Makes the query list: words, bigrams, titles, synsets.

    Example: wit queries --wikipedia 'enwiki-*.xml*.bz2' --wordnet dict --out out/queries
    """
    from openwit.pipeline.stages.queries.settings import QuerySettings

    flags = {"wikipedia": wikipedia, "pageviews": pageviews, "wordnet": wordnet, "tables": table, "limit": limit}
    settings = _settings(QuerySettings, "queries", flags, sets)
    job = _job(runner, workers, replace, context)
    from openwit.pipeline.reporting import print_examples
    from openwit.pipeline.stages.queries import stage

    manifest, did = stage.run(job, settings, out)
    _report("queries", manifest, did, out)
    print_examples(Console(), manifest)


@app.command(context_settings=_BEAM_FLAGS)
def candidates(
    context: typer.Context,
    inputs: Annotated[list[str], typer.Option("--input", help="WARC, WAT, ARC, table or path list; repeatable")],
    out: Out,
    sets: Sets = None,
    runner: RunnerName = "local",
    workers: Workers = 1,
    replace: Replace = False,
) -> None:
    """Reads (image, text) pairs from crawls and tables.

    Example: wit candidates --input 'crawl/*.warc.gz' --out out/candidates --set language.languages=[en]
    """
    from openwit.pipeline.stages.candidates.settings import CandidateSettings

    settings = _settings(CandidateSettings, "candidates", {"inputs": inputs}, sets)
    job = _job(runner, workers, replace, context)
    from openwit.pipeline.stages.candidates import stage

    manifest, did = stage.run(job, settings, out)
    _report("candidates", manifest, did, out)
    from openwit.pipeline.reporting import print_damage, print_yields

    print_yields(Console(), manifest.counters)
    print_damage(Console(), manifest, out)


@app.command(context_settings=_BEAM_FLAGS)
def select(
    context: typer.Context,
    candidates: Annotated[list[Path], typer.Option("--candidates", help="folder of `wit candidates`; repeatable")],
    queries: Annotated[Path, typer.Option("--queries", help="queries.parquet, or the folder of `wit queries`")],
    out: Out,
    cap: Annotated[int | None, typer.Option("--cap", help="pairs a query may draw (default 20000)")] = None,
    balance: Annotated[str | None, typer.Option("--balance", help="cap | probabilistic")] = None,
    match: Annotated[str | None, typer.Option("--match", help="words | metaclip")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="of the draw")] = None,
    reuse: Annotated[
        Path | None, typer.Option("--reuse", help="earlier selection whose matches are taken over, not made again")
    ] = None,
    sets: Sets = None,
    runner: RunnerName = "local",
    workers: Workers = 1,
    replace: Replace = False,
) -> None:
    """Searches every query in every caption and draws up to the cap a query.

    Example: wit select --candidates out/candidates --queries out/queries --out out/selected --cap 20000
    New candidates beside old ones: --candidates out/old --candidates out/new --reuse out/selected --out out/selected2
    """
    from openwit.pipeline.stages.select.settings import SelectSettings

    flags = {"cap": cap, "balance": balance, "match": match, "seed": seed}
    settings = _settings(SelectSettings, "select", flags, sets)
    job = _job(runner, workers, replace, context)
    from openwit.pipeline.stages.select import stage

    query_file = queries / "queries.parquet" if queries.is_dir() else queries
    manifest, did = stage.run(job, settings, candidates, query_file, out, reuse)
    _report("select", manifest, did, out)


@app.command(context_settings=_BEAM_FLAGS)
def fetch(
    context: typer.Context,
    source: Input,
    out: Out,
    sets: Sets = None,
    runner: RunnerName = "local",
    workers: Workers = 1,
    replace: Replace = False,
    retry_failed: RetryFailed = False,
) -> None:
    """Downloads, checks and resizes the selected images.

    Example: wit fetch --input out/selected --out out/fetched --set image.size=256 --set download.concurrency=256
    Later: the same with --retry-failed asks again what timed out or was refused for the moment.
    """
    from openwit.pipeline.stages.fetch.settings import FetchSettings

    settings = _settings(FetchSettings, "fetch", {}, sets)
    job = _job(runner, workers, replace, context)
    from openwit.pipeline.stages.fetch import stage

    manifest, did = stage.run(job, settings, source, out, retry_failed)
    _report("fetch", manifest, did, out)
    from openwit.pipeline.cli.hosts_report import print_hosts

    print_hosts(Console(), out)


@app.command(context_settings=_BEAM_FLAGS)
def dedup(
    context: typer.Context,
    source: Input,
    out: Out,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", help="evaluation images: folder, tar, Parquet or dataset; repeatable"),
    ] = None,
    sets: Sets = None,
    runner: RunnerName = "local",
    workers: Workers = 1,
    replace: Replace = False,
) -> None:
    """Finds images that are copies of each other and keeps the best of them; takes out copies of evaluation images.

    Example: wit dedup --input out/fetched --out out/deduplicated --exclude imagenet-val/ --exclude flickr30k.tar
    """
    from openwit.pipeline.stages.dedup.settings import DedupSettings

    settings = _settings(DedupSettings, "dedup", {"exclude": exclude}, sets)
    job = _job(runner, workers, replace, context)
    from openwit.pipeline.stages.dedup import stage

    manifest, did = stage.run(job, settings, source, out)
    _report("dedup", manifest, did, out)
    from openwit.pipeline.reporting import print_excluded

    print_excluded(Console(), manifest, out)


@app.command(context_settings=_BEAM_FLAGS)
def redraw(
    context: typer.Context,
    source: Input,
    out: Out,
    runner: RunnerName = "local",
    workers: Workers = 1,
    replace: Replace = False,
) -> None:
    """Draws again, with the cap itself, among the pairs that are left of a selection with oversample.

    Example: wit redraw --input out/deduplicated --out out/redrawn
    """
    job = _job(runner, workers, replace, context)
    from openwit.pipeline.stages.redraw import stage

    manifest, did = stage.run(job, source, out)
    _report("redraw", manifest, did, out)


@app.command(context_settings=_BEAM_FLAGS)
def shard(
    context: typer.Context,
    source: Input,
    out: Annotated[str, typer.Option("--out", help="folder to write, or a URL: s3://bucket/name, gs://bucket/name …")],
    name: Annotated[str, typer.Option("--name", help="of the dataset")] = "dataset",
    work: Annotated[
        Path | None, typer.Option("--work", help="work folder where --out is a URL [default: shard/ beside --input]")
    ] = None,
    sets: Sets = None,
    runner: RunnerName = "local",
    workers: Workers = 1,
    replace: Replace = False,
) -> None:
    """Writes WebDataset shards with index, metadata and manifest.

    Example: wit shard --input out/deduplicated --out out/dataset --name birds --set bytes=500MB
    """
    from openwit.pipeline.stages.shard.settings import ShardSettings

    settings = _settings(ShardSettings, "shard", {}, sets)
    job = _job(runner, workers, replace, context)
    from openwit.pipeline.stages.shard import stage

    folder, target = stage.folders(out, work or source.absolute().parent / "shard")
    manifest, did = stage.run(job, settings, stage.Title(name), source, folder, target)
    _report("shard", manifest, did, out)


cli_dataset.add_commands(app)
add_start_commands(app)

main = entry_point(app, "wit")

if __name__ == "__main__":
    main()

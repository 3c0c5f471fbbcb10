"""`wit`: builds a WebImageText dataset. Beam is imported by the commands that run it, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from openwit.pipeline.cli import dataset as cli_dataset
from openwit.pipeline.cli.options import BEAM_FLAGS as _BEAM_FLAGS
from openwit.pipeline.cli.options import Input, JobFlags, Out, Replace, RunnerName, Sets, Workers, run_stage_command
from openwit.pipeline.cli.options import make_job as _job
from openwit.pipeline.cli.start import add_commands as add_start_commands
from openwit.pipeline.stages import STAGES
from openwit.pipeline.stages.base import InputMap
from openwit.schemas.common.command import Version, entry_point

app = typer.Typer(
    help=f"Builds WebImageText datasets. The stages, each also a command: {', '.join(STAGES)}.",
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
    sets: Annotated[list[str] | None, typer.Option("--set", help="STEP.key=value; repeatable")] = None,
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
    from openwit.pipeline.cli.report import print_build, print_step

    console = Console()
    done = run_build(
        loaded,
        workdir or Path("out") / loaded.name,
        job,
        retry_failed=retry_failed,
        dataset_url=dataset,
        on_step=lambda result: print_step(console, result),
    )
    print_build(console, done)


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
    from openwit.pipeline.cli.report import print_examples

    flags = {"wikipedia": wikipedia, "pageviews": pageviews, "wordnet": wordnet, "tables": table, "limit": limit}
    job = JobFlags(runner, workers, replace, context)
    done = run_stage_command("queries", job, {}, out, flags=flags, sets=sets)
    print_examples(Console(), done.manifest)


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
    from openwit.pipeline.cli.report import print_damage, print_yields

    job = JobFlags(runner, workers, replace, context)
    done = run_stage_command("candidates", job, {}, out, flags={"inputs": inputs}, sets=sets)
    print_yields(Console(), done.manifest.counters)
    print_damage(Console(), done.manifest, out)


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
    flags = {"cap": cap, "balance": balance, "match": match, "seed": seed}
    inputs: InputMap = {"candidates": candidates, "queries": queries, "reuse": [reuse] if reuse else []}
    run_stage_command("select", JobFlags(runner, workers, replace, context), inputs, out, flags=flags, sets=sets)


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
    from openwit.pipeline.cli.hosts_report import print_hosts
    from openwit.pipeline.stages.base import BuildContext

    build = BuildContext(retry_failed=retry_failed)
    job = JobFlags(runner, workers, replace, context)
    run_stage_command("fetch", job, {"selected": source}, out, sets=sets, build=build)
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
    from openwit.pipeline.cli.report import print_excluded

    job = JobFlags(runner, workers, replace, context)
    done = run_stage_command("dedup", job, {"images": source}, out, flags={"exclude": exclude}, sets=sets)
    print_excluded(Console(), done.manifest, out)


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
    run_stage_command("redraw", JobFlags(runner, workers, replace, context), {"survivors": source}, out)


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
    from openwit.pipeline.dataset.store import RemoteFolder, open_store
    from openwit.pipeline.stages.base import BuildContext, DatasetInfo

    place = open_store(out)
    remote = isinstance(place, RemoteFolder)
    folder = (work or source.absolute().parent / "shard") if remote else Path(out)
    build = BuildContext(dataset=DatasetInfo(name), target=str(place) if remote else None)
    job = JobFlags(runner, workers, replace, context)
    run_stage_command("shard", job, {"survivors": source}, folder, sets=sets, build=build, shown=out)


cli_dataset.add_commands(app)
add_start_commands(app)

main = entry_point(app, "wit")

if __name__ == "__main__":
    main()

"""`wit`: builds a WebImageText dataset. Beam is imported by the commands that run it, so that `--help` is quick."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from schemas.command import entry_point
from schemas.settings import Settings, apply_override, parse_settings

if TYPE_CHECKING:
    from pipeline.columnar.stage import Job, StageManifest

SettingsT = TypeVar("SettingsT", bound=Settings)

app = typer.Typer(
    help="Builds WebImageText datasets: queries, candidates, select, fetch, dedup, shard, card.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

RunnerName = Annotated[str, typer.Option("--runner", help="local | portable | flink | spark | dataflow")]
Workers = Annotated[int, typer.Option("--workers", help="worker processes of the local runner")]
Replace = Annotated[bool, typer.Option("--replace", help="rebuild what other settings or inputs made here")]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="ask again for images that failed for reasons that pass")
]
Sets = Annotated[list[str] | None, typer.Option("--set", help="a setting of the stage, as key=value; repeatable")]
Out = Annotated[Path, typer.Option("--out", help="folder to write")]
Input = Annotated[Path, typer.Option("--input", help="folder the stage before wrote")]
_BEAM_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": False}


def _job(runner: str, workers: int, replace: bool, context: typer.Context) -> Job:
    _quiet()
    from pipeline.columnar.runner import Runner
    from pipeline.columnar.stage import Job

    return Job(Runner(runner, workers, tuple(context.args)), Console(), replace)


def _quiet() -> None:
    """Keeps the libraries' own chatter off a user's screen; errors still come through."""
    warnings.filterwarnings("ignore", module="apache_beam")
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def _settings(model: type[SettingsT], command: str, flags: dict[str, Any], sets: list[str] | None) -> SettingsT:
    raw = {key: value for key, value in flags.items() if value is not None}
    for override in sets or []:
        apply_override(raw, override)
    return parse_settings(raw, model, f"wit {command}")


def _report(job: Job, name: str, manifest: StageManifest, did: bool, out: Path) -> None:
    from pipeline.report import print_steps

    if not did:
        job.console.print(f"Nothing to do: {out} holds this {name} stage, complete.", highlight=False)
    print_steps(job.console, manifest.funnel)


@app.command(context_settings=_BEAM_FLAGS)
def build(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="recipe in YAML", metavar="RECIPE.yaml")],
    workdir: Annotated[Path | None, typer.Option("--workdir", help="folder of the build [default: out/NAME]")] = None,
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
    from pipeline.recipe import load_recipe

    loaded = load_recipe(recipe, sets or [])
    job = _job(runner, workers, replace, context)
    from pipeline.build import build as run_build

    run_build(loaded, workdir or Path("out") / loaded.name, job, retry_failed)


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
    from pipeline.recipe import QuerySettings

    flags = {"wikipedia": wikipedia, "pageviews": pageviews, "wordnet": wordnet, "tables": table, "limit": limit}
    settings = _settings(QuerySettings, "queries", flags, sets)
    job = _job(runner, workers, replace, context)
    from pipeline.report import print_examples
    from pipeline.stages import queries as stage

    manifest, did = stage.run(job, settings, out)
    _report(job, "queries", manifest, did, out)
    print_examples(job.console, manifest)


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
    from pipeline.recipe import CandidateSettings

    settings = _settings(CandidateSettings, "candidates", {"inputs": inputs}, sets)
    job = _job(runner, workers, replace, context)
    from pipeline.stages import candidates as stage

    manifest, did = stage.run(job, settings, out)
    _report(job, "candidates", manifest, did, out)
    from pipeline.report import print_damage, print_yields

    print_yields(job.console, manifest.counters)
    print_damage(job.console, manifest, out)


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
    from pipeline.recipe import SelectSettings

    flags = {"cap": cap, "balance": balance, "match": match, "seed": seed}
    settings = _settings(SelectSettings, "select", flags, sets)
    job = _job(runner, workers, replace, context)
    from pipeline.stages import select as stage

    query_file = queries / "queries.parquet" if queries.is_dir() else queries
    manifest, did = stage.run(job, settings, candidates, query_file, out, reuse)
    _report(job, "select", manifest, did, out)


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
    from pipeline.recipe import FetchSettings

    settings = _settings(FetchSettings, "fetch", {}, sets)
    job = _job(runner, workers, replace, context)
    from pipeline.stages import fetch as stage

    manifest, did = stage.run(job, settings, source, out, retry_failed)
    _report(job, "fetch", manifest, did, out)
    from pipeline.hosts_report import print_hosts

    print_hosts(job.console, out)


@app.command(context_settings=_BEAM_FLAGS)
def dedup(
    context: typer.Context,
    source: Input,
    out: Out,
    sets: Sets = None,
    runner: RunnerName = "local",
    workers: Workers = 1,
    replace: Replace = False,
) -> None:
    """Finds images that are copies of each other and keeps the best of them.

    Example: wit dedup --input out/fetched --out out/deduplicated --set max_distance=4
    """
    from pipeline.recipe import DedupSettings

    settings = _settings(DedupSettings, "dedup", {}, sets)
    job = _job(runner, workers, replace, context)
    from pipeline.stages import dedup as stage

    manifest, did = stage.run(job, settings, source, out)
    _report(job, "dedup", manifest, did, out)


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
    from pipeline.stages import redraw as stage

    manifest, did = stage.run(job, source, out)
    _report(job, "redraw", manifest, did, out)


@app.command(context_settings=_BEAM_FLAGS)
def shard(
    context: typer.Context,
    source: Input,
    out: Out,
    name: Annotated[str, typer.Option("--name", help="of the dataset")] = "dataset",
    sets: Sets = None,
    runner: RunnerName = "local",
    workers: Workers = 1,
    replace: Replace = False,
) -> None:
    """Writes WebDataset shards with index, metadata and manifest.

    Example: wit shard --input out/deduplicated --out out/dataset --name birds --set samples=10000
    """
    from pipeline.recipe import ShardSettings

    settings = _settings(ShardSettings, "shard", {}, sets)
    job = _job(runner, workers, replace, context)
    from pipeline.stages import shard as stage

    manifest, did = stage.run(job, settings, stage.Title(name), source, out)
    _report(job, "shard", manifest, did, out)


@app.command()
def card(
    context: typer.Context,
    dataset: Annotated[Path, typer.Argument(help="dataset folder")],
    sets: Sets = None,
) -> None:
    """Writes card.html and card.json of a dataset.

    Example: wit card out/demo/dataset
    """
    from pipeline.recipe import CardSettings

    settings = _settings(CardSettings, "card", {}, sets)
    job = _job("local", 1, False, context)
    from pipeline.stages import card as stage

    did = stage.run(job, settings, dataset)
    job.console.print(f"{'Wrote' if did else 'Nothing to do:'} {dataset / stage.HTML}", highlight=False)


@app.command()
def explain(
    dataset: Annotated[Path, typer.Argument(help="dataset folder")],
    what: Annotated[str, typer.Argument(help="image URL, or key of a sample", metavar="URL_OR_KEY")],
) -> None:
    """Says where an image comes from and what chose it, or at which stage it left and why; exit code 1 if unknown.

    Example: wit explain out/demo/dataset 000000012
    """
    from pipeline.explain import explain as look_up
    from pipeline.explain_report import print_explanation

    kept, dropped = look_up(dataset, what)
    print_explanation(Console(), kept, dropped)
    if not kept and not dropped:
        print(f"{what} is neither in {dataset} nor among what left at a stage of its build")
        raise SystemExit(1)


@app.command()
def verify(dataset: Annotated[Path, typer.Argument(help="dataset folder")]) -> None:
    """Checks every checksum, count and schema of a dataset; exit code 1 and a list when something is off.

    Example: wit verify out/demo/dataset
    """
    from pipeline.shards.verify import verify_dataset

    problems = verify_dataset(dataset)
    for problem in problems:
        print(problem)
    if problems:
        raise SystemExit(1)
    print(f"{dataset}: every file, count and schema is as the manifest says")


main = entry_point(app, "wit")

if __name__ == "__main__":
    main()

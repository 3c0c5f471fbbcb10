"""Define the command `wit`. Beam is imported by the commands that run it, so that `--help` is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openwit.pipeline.cli import dataset as cli_dataset
from openwit.pipeline.cli import existing as cli_existing
from openwit.pipeline.cli.fetch import add_commands as add_fetch_command
from openwit.pipeline.cli.inputs import add_commands as add_inputs_command
from openwit.pipeline.cli.lock import add_commands as add_lock_commands
from openwit.pipeline.cli.match import add_commands as add_match_command
from openwit.pipeline.cli.options import (
    BEAM_FLAGS,
    Cluster,
    JobFlags,
    Out,
    Replace,
    RetryFailed,
    Runner,
    Sets,
    Workers,
    make_job,
    run_stage_command,
)
from openwit.pipeline.cli.start import add_commands as add_start_commands
from openwit.pipeline.stages.base import InputMap
from openwit.pipeline.stages.limits import HIGHEST_PRICE, LARGEST_CAP, LARGEST_SEED, MOST_QUERIES
from openwit.pipeline.stages.select.settings import BalanceMode
from openwit.pipeline.text.matching.settings import MatchMode
from openwit.schemas.common.command import Version, entry_point, examples, make_console, path_or_url

app = typer.Typer(
    name="wit",
    help="Build image-text datasets for CLIP training from web crawls, dumps and tables.\n\n"
    "wit build runs every step of a recipe; each stage is also a command of its own.",
    epilog=examples(
        "wit demo                                   run the whole chain on a small drawn web",
        "wit init pairs --out my-pairs              copy a recipe to edit",
        "wit build my-pairs/pairs.yaml              build its dataset, or resume",
        "wit explain out/pairs/dataset 0000000012   show where a sample came from",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root(version: Version = False) -> None:
    pass


@app.command(
    context_settings=BEAM_FLAGS,
    epilog=examples(
        "wit build demo/recipe.yaml --workdir out/demo --set select.cap=100",
        "wit build recipe.yaml --runner flink -- --flink_master=localhost:8081",
        "wit build recipe.yaml --workdir gs://bucket/w --runner dataflow --check",
        "wit build recipe.yaml --plan --price-per-core-hour 0.05 --assume success_share=0.6",
    ),
)
def build(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML).", metavar="RECIPE.yaml")],
    workdir: Annotated[
        Path | None,
        typer.Option(
            "--workdir",
            parser=path_or_url,
            metavar="FOLDER|URL",
            help="Folder of the build, or its URL [default: out/NAME].",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="Folder or URL to write the dataset to [default: dataset/ in the workdir]."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STEP.KEY=VALUE", help="Override a setting of a step. Repeatable."),
    ] = None,
    runner: Runner = "local",
    workers: Workers = "auto",
    cluster: Cluster = None,
    replace: Replace = False,
    retry_failed: RetryFailed = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check the graphs, folders and flags for a Beam runner; run nothing.")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Tell pairs, bytes, hours and cost from a slice of the inputs; build nothing."),
    ] = False,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            "--assume", metavar="KEY=VALUE", help="What a plan cannot measure, success_share=0.6. Repeatable."
        ),
    ] = None,
    price_per_core_hour: Annotated[
        float | None,
        typer.Option("--price-per-core-hour", min=0, max=HIGHEST_PRICE, help="For the cost in a plan, any currency."),
    ] = None,
) -> None:
    """Build a dataset from a recipe, or resume the build.

    Run the same command again after an interruption: finished steps and tasks are skipped. With --plan it tells first
    what a build would give and cost.
    """
    if (assume or price_per_core_hour is not None) and not plan:
        raise typer.BadParameter("--assume and --price-per-core-hour belong to --plan")
    if plan and check:
        raise typer.BadParameter("--plan and --check are two questions: ask one at a time")
    from openwit.pipeline.recipe import load_recipe

    loaded = load_recipe(recipe, sets or [])
    where = workdir or Path("out") / loaded.name
    flags = JobFlags(runner, workers, cluster, replace, context)
    if plan:
        from openwit.pipeline.cli.plan_report import run_plan

        run_plan(loaded, where, flags, assume, price_per_core_hour)
        return
    if check:
        from openwit.pipeline.cli.check_report import run_check

        if not run_check(loaded, where, flags, dataset):
            raise typer.Exit(2)
        return
    job = make_job(flags)
    from openwit.pipeline.build import build as run_build
    from openwit.pipeline.cli.report import print_build, print_step

    console = make_console()
    for note in loaded.notes():
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    done = run_build(
        loaded,
        where,
        job,
        retry_failed=retry_failed,
        dataset_url=dataset,
        on_step=lambda result: print_step(console, result),
    )
    print_build(console, done)


@app.command(
    context_settings=BEAM_FLAGS,
    epilog=examples("wit queries --wikipedia 'enwiki-*.xml*.bz2' --wordnet builtin --out out/queries"),
)
def queries(
    context: typer.Context,
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
    runner: Runner = "local",
    workers: Workers = "auto",
    cluster: Cluster = None,
    replace: Replace = False,
) -> None:
    """Make the query list: words, bigrams, titles and synsets."""
    from openwit.pipeline.cli.report import print_examples

    sources = {"wikipedia": wikipedia, "pageviews": pageviews, "wordnet": wordnet, "tables": table}
    flags = {**sources, "limit": limit, "match": match}
    job = JobFlags(runner, workers, cluster, replace, context)
    done = run_stage_command("queries", job, {}, out, flags=flags, sets=sets)
    print_examples(make_console(), done.manifest)


@app.command(
    context_settings=BEAM_FLAGS,
    epilog=examples("wit candidates --input 'crawl/*.warc.gz' --out out/candidates --set language.languages=[en]"),
)
def candidates(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input", help="Crawl archive, table, tar, list of URLs, folder or dataset; globs, URLs. Repeatable."
        ),
    ],
    out: Out,
    sets: Sets = None,
    runner: Runner = "local",
    workers: Workers = "auto",
    cluster: Cluster = None,
    replace: Replace = False,
) -> None:
    """Read (image, text) pairs of crawls, tables, tars and more."""
    from openwit.pipeline.cli.report import print_damage, print_extraction_stats

    job = JobFlags(runner, workers, cluster, replace, context)
    done = run_stage_command("candidates", job, {}, out, flags={"inputs": inputs}, sets=sets)
    print_extraction_stats(make_console(), done.manifest.counters)
    print_damage(make_console(), done.manifest, out)


@app.command(
    context_settings=BEAM_FLAGS,
    epilog=examples(
        "wit select --candidates out/candidates --queries out/queries --out out/selected --cap 20000",
        "wit select --candidates out/old --candidates out/new --queries out/queries \\",
        "    --reuse out/selected --out out/selected2",
        "wit select --candidates out/candidates --balance all --out out/selected",
    ),
)
def select(
    context: typer.Context,
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
    runner: Runner = "local",
    workers: Workers = "auto",
    cluster: Cluster = None,
    replace: Replace = False,
) -> None:
    """Match captions with queries and draw pairs up to the cap."""
    flags = {"cap": cap, "balance": balance, "match": match, "seed": seed}
    inputs: InputMap = {
        "candidates": candidates,
        "queries": [queries] if queries else [],
        "reuse": [reuse] if reuse else [],
    }
    run_stage_command(
        "select", JobFlags(runner, workers, cluster, replace, context), inputs, out, flags=flags, sets=sets
    )


@app.command(
    context_settings=BEAM_FLAGS,
    epilog=examples(
        "wit dedup 'shards/*.tar' --out deduplicated",
        "wit dedup out/demo/dataset --out demo-unique --exclude imagenet-val/",
        "wit dedup --input out/fetched --out out/deduplicated --exclude flickr30k.tar",
    ),
)
def dedup(
    context: typer.Context,
    out: Out,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Datasets, tars, tables with images, folders of images.", metavar="[INPUT]…"),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--input", metavar="FOLDER|URL", help="Folder that `wit fetch` wrote, or an INPUT.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            help="Evaluation images whose copies are dropped: folder, tar, Parquet file or dataset. Repeatable.",
        ),
    ] = None,
    name: cli_existing.Name = "",
    work: cli_existing.Work = None,
    sets: Sets = None,
    runner: Runner = "local",
    workers: Workers = "auto",
    cluster: Cluster = None,
    replace: Replace = False,
) -> None:
    """Drop duplicate images and copies of evaluation images.

    One image of each group of duplicates is kept. Of a folder that `wit fetch` wrote, the folder of the stage is
    written; of anything else a finished dataset.
    """
    from openwit.pipeline.cli.report import print_excluded

    listed = [*(inputs or []), *([source] if source else [])]
    if not listed:
        raise typer.BadParameter("name at least one INPUT: a dataset, tars, a table with images, a folder")
    job = JobFlags(runner, workers, cluster, replace, context)
    if len(listed) == 1 and not cli_existing.is_data(listed[0], is_argument=source is None):
        given = {"images": path_or_url(listed[0])}
        done = run_stage_command("dedup", job, given, out, flags={"exclude": exclude}, sets=sets)
        print_excluded(make_console(), done.manifest, out)
        return
    from openwit.pipeline.existing import Wanted, read_changes
    from openwit.pipeline.stages import stage_named

    settings = {"exclude": exclude} if exclude else {}
    wanted = Wanted("dedup", dedup=settings, changes=read_changes(sets or [], stage_named("dedup")))
    cli_existing.run_existing_command(job, listed, wanted, out, name, work)


@app.command(context_settings=BEAM_FLAGS, epilog=examples("wit redraw --input out/deduplicated --out out/redrawn"))
def redraw(
    context: typer.Context,
    source: Annotated[
        Path, typer.Option("--input", parser=path_or_url, metavar="FOLDER|URL", help="Folder that `wit dedup` wrote.")
    ],
    out: Out,
    runner: Runner = "local",
    workers: Workers = "auto",
    cluster: Cluster = None,
    replace: Replace = False,
) -> None:
    """Draw again up to the cap among the pairs that were fetched.

    For a selection that was made with oversample > 1: it drew more pairs than the cap, because some are lost in the
    download.
    """
    run_stage_command("redraw", JobFlags(runner, workers, cluster, replace, context), {"survivors": source}, out)


@app.command(
    context_settings=BEAM_FLAGS,
    epilog=examples(
        "wit shard --input out/deduplicated --out out/dataset --name birds --set bytes=500MB",
        "wit shard --input out/deduplicated --out s3://bucket/birds --name birds",
    ),
)
def shard(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Option(
            "--input", parser=path_or_url, metavar="FOLDER|URL", help="Folder that `wit dedup` or `wit redraw` wrote."
        ),
    ],
    out: Annotated[str, typer.Option("--out", help="Folder or URL to write: s3://bucket/name, gs://bucket/name, ….")],
    name: Annotated[str, typer.Option("--name", help="Dataset name.")] = "dataset",
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            parser=path_or_url,
            metavar="FOLDER|URL",
            help="Work folder if --out is a URL [default: shard/ beside the input].",
        ),
    ] = None,
    sets: Sets = None,
    runner: Runner = "local",
    workers: Workers = "auto",
    cluster: Cluster = None,
    replace: Replace = False,
) -> None:
    """Write shards with index, metadata and manifest."""
    from openwit.pipeline.dataset.store import RemoteFolder, open_store
    from openwit.pipeline.stages.base import BuildContext, DatasetInfo

    store = open_store(out)
    remote = isinstance(store, RemoteFolder)
    folder = (work or source.absolute().parent / "shard") if remote else Path(out)
    build = BuildContext(dataset=DatasetInfo(name), target=str(store) if remote else None)
    job = JobFlags(runner, workers, cluster, replace, context)
    run_stage_command("shard", job, {"survivors": source}, folder, sets=sets, build=build, shown=out)


@app.command(
    context_settings=BEAM_FLAGS,
    epilog=examples(
        "wit embed out/dataset --images mypkg.mean_colour --out out/embeddings",
        "wit embed out/birds --images openwit.training.embedding.Images --set images.model=out/run --out out/embedded",
    ),
)
def embed(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="Dataset folder, or its URL.", metavar="DATASET")],
    out: Out,
    images: Annotated[
        str | None, typer.Option("--images", help="Function that embeds images, by dotted name.", metavar="NAME")
    ] = None,
    texts: Annotated[
        str | None, typer.Option("--texts", help="Function that embeds captions, by dotted name.", metavar="NAME")
    ] = None,
    sets: Sets = None,
    runner: Runner = "local",
    workers: Workers = "auto",
    cluster: Cluster = None,
    replace: Replace = False,
) -> None:
    """Embed the images and captions of a dataset.

    The functions are your own, or those of the trainer: openwit.training.embedding.Images and Texts.
    """
    flags = {of: {"name": name} for of, name in (("images", images), ("texts", texts)) if name is not None}
    job = JobFlags(runner, workers, cluster, replace, context)
    run_stage_command("embed", job, {"dataset": dataset}, out, flags=flags, sets=sets)


add_fetch_command(app)
add_inputs_command(app)
cli_dataset.add_commands(app)
add_lock_commands(app)
add_match_command(app)
cli_existing.add_commands(app)
add_start_commands(app)

main = entry_point(app, "wit")

if __name__ == "__main__":
    main()

"""Define the command that downloads images: a stage of a build, or from lists and tables to shards in one go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from openwit.pipeline.cli.options import (
    BEAM_FLAGS,
    Cluster,
    JobFlags,
    Replace,
    RetryFailed,
    Runner,
    Workers,
    make_job,
    run_stage_command,
)
from openwit.pipeline.images.settings import ResizeMode
from openwit.pipeline.stages.limits import LARGEST_SEED
from openwit.schemas.common.command import examples, make_console, path_or_url
from openwit.schemas.manifest import ShardFormat

if TYPE_CHECKING:
    from openwit.pipeline.recipe import Recipe

_LARGEST = 1_000_000_000
_TABLE, _IMAGE, _DOWNLOAD, _DATASET = "Table", "Images", "Download", "Dataset"


def add_commands(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        context_settings=BEAM_FLAGS,
        epilog=examples(
            "wit fetch urls.csv --out birds --format webdataset",
            "wit fetch --input 'pool/*.parquet' --out birds --format files --url-col link --caption-col alt \\",
            "    --keep-col author --size 224 --resize-mode center_crop --timeout 10 --retries 2",
            "wit fetch --input out/selected --out out/fetched --set image.size=256 --retry-failed",
        ),
    )(fetch)


def fetch(
    context: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(help="Inputs, as --input takes them.", metavar="[INPUT]…", show_default=False)
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="FILE|FOLDER|URL",
            help="List of URLs (.txt), table (.csv, .tsv, .jsonl, .parquet), tar or folder of images, glob, URL, or "
            "the folder that `wit select` wrote. Repeatable.",
        ),
    ] = None,
    out: Annotated[
        str, typer.Option("--out", metavar="FOLDER|URL", help="Folder or URL to write.", show_default=False)
    ] = "",
    form: Annotated[
        ShardFormat | None,
        typer.Option("--format", help="Write a dataset of such shards; without it, what `wit dedup` reads."),
    ] = None,
    url_col: Annotated[
        str | None, typer.Option("--url-col", help="Column of URLs, where it has no usual name.")
    ] = None,
    caption_col: Annotated[
        list[str] | None,
        typer.Option("--caption-col", help="Column of texts, where it has no usual name. Repeatable."),
    ] = None,
    keep_col: Annotated[
        list[str] | None, typer.Option("--keep-col", help="Column to keep in the dataset, or all. Repeatable.")
    ] = None,
    key_col: Annotated[
        str | None, typer.Option("--key-col", help="Column whose values name the samples, in place of numbers.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, max=_LARGEST, help="Samples per shard [default: 10000].")
    ] = None,
    order: Annotated[
        Literal["input", "shuffled"], typer.Option("--order", help="Keep the order of the input, or shuffle.")
    ] = "input",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Random seed of --order shuffled.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, max=8192, help="Length in pixels [default: 256].")
    ] = None,
    resize_mode: Annotated[
        ResizeMode | None, typer.Option("--resize-mode", help="What becomes as long [default: keep_ratio].")
    ] = None,
    enlarge: Annotated[bool, typer.Option("--enlarge", help="Resize smaller images too.")] = False,
    quality: Annotated[
        int | None, typer.Option("--quality", min=1, max=100, help="Quality of the encoder [default: 95].")
    ] = None,
    min_size: Annotated[
        int | None,
        typer.Option(
            "--min-size", min=1, max=65_536, help="Drop images whose short side is below this [default: 32]."
        ),
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option("--max-pixels", min=1, max=178_956_970, help="Drop images with more pixels [default: 50000000]."),
    ] = None,
    max_aspect_ratio: Annotated[
        float | None, typer.Option("--max-aspect-ratio", min=1, max=65_536, help="Drop narrower images [default: 6].")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, max=4096, help="Concurrent transfers of a process [default: 256]."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0.001, max=86_400, help="Seconds for one attempt at a URL [default: 30]."),
    ] = None,
    retries: Annotated[
        int | None, typer.Option("--retries", min=0, max=10, help="Retries of failures that may pass [default: 1].")
    ] = None,
    user_agent: Annotated[
        str | None, typer.Option("--user-agent", help="Header of the requests: a name and a contact.")
    ] = None,
    robots: Annotated[bool, typer.Option("--robots/--no-robots", help="Obey robots.txt.")] = True,
    opt_outs: Annotated[
        bool, typer.Option("--opt-outs/--no-opt-outs", help="Obey X-Robots-Tag and tdm-reservation.")
    ] = True,
    name: Annotated[str, typer.Option("--name", help="Name of the dataset [default: of its folder].")] = "",
    work: Annotated[
        Path | None,
        typer.Option("--work", parser=path_or_url, metavar="FOLDER|URL", help="Work folder [default: OUT.work]."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting of fetch, or of another step (STEP.KEY). Repeatable.",
        ),
    ] = None,
    runner: Runner = "local",
    workers: Workers = "auto",
    cluster: Cluster = None,
    replace: Replace = False,
    retry_failed: RetryFailed = False,
) -> None:
    """Download, check and resize images, and shard them.

    With --format it goes from URLs to a dataset. Run the same command again after an interruption: what is done is
    skipped.
    """
    job = JobFlags(runner, workers, cluster, replace, context)
    inputs = [*(paths or []), *(source or [])]
    if not inputs:
        raise typer.BadParameter("name an input: a list of URLs, a table, tars, a folder, or what `wit select` wrote")
    if not out:
        raise typer.BadParameter("missing option '--out'")
    options: dict[str, Any] = {
        "candidates.columns.url": url_col,
        "candidates.columns.text": caption_col,
        "candidates.columns.keep": "all" if keep_col == ["all"] else keep_col,
        "candidates.columns.key": key_col,
        "shard.keys": None if key_col is None else "input",
        "shard.samples": samples,
        "shard.order": None if order == "input" else order,
        "shard.seed": seed,
        "fetch.image.size": size,
        "fetch.image.mode": None if resize_mode is None else resize_mode.value,
        "fetch.image.only_if_bigger": False if enlarge else None,
        "fetch.image.quality": quality,
        "fetch.image.min_size": min_size,
        "fetch.image.max_pixels": max_pixels,
        "fetch.image.max_aspect_ratio": max_aspect_ratio,
        "fetch.download.concurrency": threads,
        "fetch.download.timeout_s": timeout,
        "fetch.download.retries": retries,
        "fetch.download.user_agent": user_agent,
        "fetch.download.robots": None if robots else False,
        "fetch.download.opt_outs": None if opt_outs else False,
    }
    given = {key: value for key, value in options.items() if value not in (None, [])}
    if form is None and len(inputs) == 1 and _is_stage(inputs[0]):
        _run_stage(inputs[0], out, given, sets, job, retry_failed)
        return
    if form is None and (beyond := [key for key in given if key.startswith("shard.")]):
        raise typer.BadParameter(f"{beyond[0]} is a setting of shards: choose their --format")
    from openwit.pipeline.direct_fetch import fetch_recipe

    recipe = fetch_recipe(inputs, out, given, form=form, sets=sets or (), name=name)
    if form is None:
        _run_until_fetched(recipe, inputs, out, job, work, retry_failed)
    else:
        _run_to_shards(recipe, inputs, out, job, work, retry_failed)


def _is_stage(name: str) -> bool:
    from openwit.pipeline.execution.files import STAGE_MANIFEST

    folder = path_or_url(name)
    return not folder.is_file() and (folder / STAGE_MANIFEST).exists()


def _run_stage(
    source: str, out: str, given: dict[str, Any], sets: list[str] | None, job: JobFlags, retry_failed: bool
) -> None:
    """Run the stage on what `wit select` wrote."""
    from openwit.pipeline.cli.hosts_report import print_hosts
    from openwit.pipeline.direct_fetch import FETCH, nested
    from openwit.pipeline.stages.base import BuildContext

    beyond = [key for key in given if not key.startswith(f"{FETCH}.")]
    if beyond:
        raise typer.BadParameter(f"{source} is the folder of a finished stage, to which {beyond[0]} does not apply")
    folder, build = path_or_url(out), BuildContext(retry_failed=retry_failed)
    inputs = {"selected": path_or_url(source)}
    run_stage_command("fetch", job, inputs, folder, flags=nested(given).get(FETCH), sets=sets, build=build)
    print_hosts(make_console(), folder)


def _run_to_shards(
    recipe: Recipe, inputs: Sequence[str], out: str, job: JobFlags, work: Path | None, retry_failed: bool
) -> None:
    """Run all steps; the dataset is OUT."""
    from openwit.pipeline.cli.direct import run_steps
    from openwit.pipeline.cli.hosts_report import print_hosts
    from openwit.pipeline.cli.report import print_damage, print_success

    done = run_steps(recipe.name, recipe.steps, out, job, inputs=inputs, work=work, retry_failed=retry_failed)
    console = make_console()
    read, fetched = done.step("candidates"), done.step("fetch")
    print_damage(console, read.manifest, path_or_url(read.folder))
    print_hosts(console, path_or_url(fetched.folder))
    print_success(console, fetched.manifest)


def _run_until_fetched(
    recipe: Recipe, inputs: Sequence[str], out: str, job: JobFlags, work: Path | None, retry_failed: bool
) -> None:
    """Run the steps before fetch in a work folder beside OUT, and fetch in OUT."""
    from openwit.pipeline.build import build
    from openwit.pipeline.cli.hosts_report import print_hosts
    from openwit.pipeline.cli.report import print_damage, print_step, print_steps, print_success
    from openwit.pipeline.dataset.places import work_folder
    from openwit.pipeline.direct import recipe_of, refuse_overlap, unclaimed_if_refused
    from openwit.pipeline.direct_fetch import FETCH, READ, SELECT, steps_of
    from openwit.pipeline.stages import stage_named
    from openwit.pipeline.stages.base import BuildContext

    refuse_overlap(out, inputs)
    made, console, folder = make_job(job), make_console(), path_or_url(out)
    before = recipe_of(steps_of(recipe, [READ, SELECT]), out, name=recipe.name)
    with unclaimed_if_refused(work or work_folder(out)):
        done = build(before, work or work_folder(out), made, on_step=lambda result: print_step(console, result))
    print_damage(console, done.step(READ).manifest, path_or_url(done.step(READ).folder))
    selected = {"selected": path_or_url(done.step(SELECT).folder)}
    context = BuildContext(retry_failed=retry_failed)
    ran = stage_named(FETCH).run(made, recipe.step(FETCH).settings, selected, folder, build=context)
    if not ran.executed:
        console.print(f"Nothing to do: {out} holds this fetch stage, complete.", highlight=False)
    print_steps(console, ran.manifest.funnel)
    print_hosts(console, folder)
    print_success(console, ran.manifest)

"""Define the command that downloads images: a stage of a build, or from lists and tables to shards in one go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openwit.pipeline.cli.fetch_options import DownloadOptions, ImageOptions, ShardOptions, TableOptions
from openwit.pipeline.cli.option_groups import grouped
from openwit.pipeline.cli.options import BEAM_FLAGS, JobFlags, RetryFailed, Work, make_job, run_stage_command
from openwit.schemas.common.command import examples, make_console, path_or_url
from openwit.schemas.manifest import ShardFormat

if TYPE_CHECKING:
    from openwit.pipeline.recipe import Recipe


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


@grouped
def fetch(
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
    *,
    table: TableOptions,
    shards: ShardOptions,
    images: ImageOptions,
    download: DownloadOptions,
    name: Annotated[str, typer.Option("--name", help="Name of the dataset [default: of its folder].")] = "",
    work: Work = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting of fetch, or of another step (STEP.KEY). Repeatable.",
        ),
    ] = None,
    job: JobFlags,
    retry_failed: RetryFailed = False,
) -> None:
    """Download, check and resize images, and shard them.

    With --format it goes from URLs to a dataset. Run the same command again after an interruption: what is done is
    skipped.
    """
    inputs = [*(paths or []), *(source or [])]
    if not inputs:
        raise typer.BadParameter("name an input: a list of URLs, a table, tars, a folder, or what `wit select` wrote")
    if not out:
        raise typer.BadParameter("missing option '--out'")
    options = table.settings() | shards.settings() | images.settings() | download.settings()
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
    from openwit.pipeline.direct_fetch import check_before_fetch

    done = run_steps(
        recipe.name, recipe.steps, out, job,
        inputs=inputs, work=work, retry_failed=retry_failed, check=partial(check_before_fetch, recipe),
    )  # fmt: skip
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

"""Define the command that drops duplicates: a stage of a build, or on data that exists."""

from __future__ import annotations

from typing import Annotated

import typer

from openwit.pipeline.cli.existing_runs import run_existing_command
from openwit.pipeline.cli.option_groups import grouped
from openwit.pipeline.cli.options import BEAM_FLAGS, DatasetFlags, JobFlags, Out, Sets, run_stage_command
from openwit.schemas.common.command import examples, make_console, path_or_url


def add_commands(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        context_settings=BEAM_FLAGS,
        epilog=examples(
            "wit dedup 'shards/*.tar' --out deduplicated",
            "wit dedup out/demo/dataset --out demo-unique --exclude imagenet-val/",
            "wit dedup --input out/fetched --out out/deduplicated --exclude flickr30k.tar",
        ),
    )(dedup)


@grouped
def dedup(
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
    *,
    dataset: DatasetFlags,
    sets: Sets = None,
    job: JobFlags,
) -> None:
    """Drop duplicate images and copies of evaluation images.

    One image of each group of duplicates is kept. Of a folder that `wit fetch` wrote, the folder of the stage is
    written; of anything else a finished dataset.
    """
    from openwit.pipeline.cli.report import print_excluded

    listed = [*(inputs or []), *([source] if source else [])]
    if not listed:
        raise typer.BadParameter("name at least one INPUT: a dataset, tars, a table with images, a folder")
    if len(listed) == 1 and not _is_data(listed[0], is_argument=source is None):
        given = {"images": path_or_url(listed[0])}
        done = run_stage_command("dedup", job, given, out, flags={"exclude": exclude}, sets=sets)
        print_excluded(make_console(), done.manifest, out)
        return
    from openwit.pipeline.existing import Wanted, read_changes
    from openwit.pipeline.stages import stage_named

    settings = {"exclude": exclude} if exclude else {}
    wanted = Wanted("dedup", dedup=settings, changes=read_changes(sets or [], stage_named("dedup")))
    run_existing_command(job, listed, wanted, out, dataset)


def _is_data(name: str, *, is_argument: bool) -> bool:
    """Return whether an input is data of any origin, and not the folder of a stage, finished or not.

    Args:
        name: of the input.
        is_argument: whether it was named as an argument, as only data are where nothing is.
    """
    from openwit.pipeline.execution.files import STAGE
    from openwit.schemas.common.storage.remote import is_remote
    from openwit.schemas.common.storage.store_path import as_path
    from openwit.schemas.manifest import MANIFEST_NAME

    if any(mark in name for mark in "?*["):
        return True
    folder = as_path(name)
    if not folder.exists():
        return is_argument
    if (folder / MANIFEST_NAME).exists() or (not is_remote(name) and folder.is_file()):
        return True
    return folder.is_dir() and not (folder / STAGE).exists() and any(folder.iterdir())

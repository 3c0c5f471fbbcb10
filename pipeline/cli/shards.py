"""Define the commands of the stages after dedup: redraw, shard, embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openwit.pipeline.cli.option_groups import grouped
from openwit.pipeline.cli.options import BEAM_FLAGS, JobFlags, Out, Sets, run_stage_command
from openwit.schemas.common.command import examples, path_or_url


def add_commands(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(context_settings=BEAM_FLAGS, epilog=examples("wit redraw --input out/deduplicated --out out/redrawn"))(
        redraw
    )
    app.command(
        context_settings=BEAM_FLAGS,
        epilog=examples(
            "wit shard --input out/deduplicated --out out/dataset --name birds --set bytes=500MB",
            "wit shard --input out/deduplicated --out s3://bucket/birds --name birds",
        ),
    )(shard)
    app.command(
        context_settings=BEAM_FLAGS,
        epilog=examples(
            "wit embed out/dataset --images mypkg.mean_colour --out out/embeddings",
            "wit embed out/birds --images openwit.training.embedding.Images --set images.model=out/run "
            "--out out/embedded",
        ),
    )(embed)


@grouped
def redraw(
    source: Annotated[
        Path, typer.Option("--input", parser=path_or_url, metavar="FOLDER|URL", help="Folder that `wit dedup` wrote.")
    ],
    out: Out,
    *,
    job: JobFlags,
) -> None:
    """Draw again up to the cap among the pairs that were fetched.

    For a selection that was made with oversample > 1: it drew more pairs than the cap, because some are lost in the
    download.
    """
    run_stage_command("redraw", job, {"survivors": source}, out)


@grouped
def shard(
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
    *,
    job: JobFlags,
) -> None:
    """Write shards with index, metadata and manifest."""
    from openwit.pipeline.dataset.store import RemoteFolder, open_store
    from openwit.pipeline.stages.base import BuildContext, DatasetInfo

    store = open_store(out)
    remote = isinstance(store, RemoteFolder)
    folder = (work or source.absolute().parent / "shard") if remote else Path(out)
    build = BuildContext(dataset=DatasetInfo(name), target=str(store) if remote else None)
    run_stage_command("shard", job, {"survivors": source}, folder, sets=sets, build=build, shown=out)


@grouped
def embed(
    dataset: Annotated[str, typer.Argument(help="Dataset folder, or its URL.", metavar="DATASET")],
    out: Out,
    images: Annotated[
        str | None, typer.Option("--images", help="Function that embeds images, by dotted name.", metavar="NAME")
    ] = None,
    texts: Annotated[
        str | None, typer.Option("--texts", help="Function that embeds captions, by dotted name.", metavar="NAME")
    ] = None,
    sets: Sets = None,
    *,
    job: JobFlags,
) -> None:
    """Embed the images and captions of a dataset.

    The functions are your own, or those of the trainer: openwit.training.embedding.Images and Texts.
    """
    flags = {of: {"name": name} for of, name in (("images", images), ("texts", texts)) if name is not None}
    run_stage_command("embed", job, {"dataset": dataset}, out, flags=flags, sets=sets)

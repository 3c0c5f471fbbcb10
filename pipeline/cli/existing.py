"""Define the commands on data that exists: dedup, decontaminate, filter, reshard, merge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from openwit.pipeline.cli.existing_runs import Shown, run_existing_command
from openwit.pipeline.cli.option_groups import grouped
from openwit.pipeline.cli.options import BEAM_FLAGS, DatasetFlags, JobFlags, StepSets, make_job
from openwit.pipeline.stages.limits import LARGEST_SEED
from openwit.schemas.common.command import examples, make_console, path_or_url
from openwit.schemas.common.wording import counted

Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Datasets, tars, tables with images, folders of images; globs, URLs of datasets.", metavar="INPUT…"
    ),
]
Out = Annotated[
    Path,
    typer.Option("--out", parser=path_or_url, metavar="FOLDER|URL", help="Dataset to write, a new folder or URL."),
]
Samples = Annotated[
    int | None, typer.Option("--samples", min=1, max=1_000_000_000, help="Target samples per shard [default: 10000].")
]
Order = Annotated[
    Literal["input", "shuffled"] | None, typer.Option("--order", help="Order of the samples [default: input].")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Random seed of the shuffle.")]
Keys = Annotated[
    Literal["input", "number"] | None,
    typer.Option("--keys", help="Keys as in the input, or numbers [default: as in one dataset, else numbers]."),
]
Keep = Annotated[
    str | None, typer.Option("--keep", help="Keep only these uids: .npy (as DataComp's), .parquet or .txt.")
]


@dataclass(frozen=True)
class OrderFlags:
    """The options of the order of the samples, and their keys."""

    order: Order = None
    seed: Seed = None
    keys: Keys = None


def add_commands(app: typer.Typer) -> None:
    """Register the commands, except dedup, which is a stage too."""
    app.command(
        context_settings=BEAM_FLAGS,
        epilog=examples(
            "wit decontaminate out/demo/dataset --against imagenet-val/ --out demo-clean",
            "wit decontaminate 'shards/*.tar' --against flickr30k.tar --report-only --report overlap.parquet",
        ),
    )(decontaminate)
    app.command(
        "filter",
        context_settings=BEAM_FLAGS,
        epilog=examples(
            "wit filter out/demo/dataset --where 'width >= 256' --where 'language in en,de' --out demo-large",
            "wit filter 'shards/*.tar' --filter mypkg.no_memes --image-filter mypkg.no_dark --out filtered",
        ),
    )(filter_)
    app.command(
        context_settings=BEAM_FLAGS,
        epilog=examples(
            "wit reshard out/demo/dataset --samples 5000 --order shuffled --out resharded",
            "wit reshard pool/dataset --keep uids.npy --out subset",
        ),
    )(reshard)
    app.command(context_settings=BEAM_FLAGS, epilog=examples("wit merge birds/dataset trees/dataset --out both"))(
        merge
    )


@grouped
def decontaminate(
    inputs: Inputs,
    against: Annotated[
        list[str],
        typer.Option("--against", help="Evaluation images: folder, tar, Parquet file or dataset. Repeatable."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=path_or_url, metavar="FOLDER|URL", help="Dataset to write, a new folder or URL."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", parser=path_or_url, metavar="FILE|URL", help="Report to write [default: OUT.overlap.parquet]."
        ),
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write the report of overlaps, and no dataset.")
    ] = False,
    distance: Annotated[
        int | None, typer.Option("--distance", min=0, max=8, help="Bits in which hashes may differ [default: 4].")
    ] = None,
    *,
    dataset: DatasetFlags,
    sets: StepSets = None,
    job: JobFlags,
) -> None:
    """Drop images that evaluation sets hold, and report them.

    The report has a row per evaluation image and sample that show the same, and one per evaluation image without.
    """
    if report_only == (out is not None):
        raise typer.BadParameter("give --out DIR for a dataset, or --report-only --report FILE for the report alone")
    if report_only and report is None:
        raise typer.BadParameter("--report-only needs --report FILE")
    from openwit.pipeline.existing import Wanted, read_changes
    from openwit.pipeline.existing_run import report_overlap
    from openwit.pipeline.stages import stage_named

    changes = read_changes(sets or [], stage_named("dedup"))
    dedup: dict[str, Any] = {"duplicates": "keep", "exclude": against}
    if distance is not None:
        dedup["exclude_distance"] = distance
    wanted = Wanted(job.context.info_name or "", dedup=dedup, changes=changes)
    console = make_console()
    show = Shown(console, makes_dataset=not report_only)
    made = make_job(job)
    done = report_overlap(
        inputs,
        wanted,
        out,
        report,
        made,
        name=dataset.name,
        work=dataset.work,
        on_recipe=show.recipe,
        on_step=show.step,
    )
    if out is not None:
        show.done(done)
    counts = done.counts
    console.print(
        f"{counts['overlap']:,} of {counted(counts['evaluation_images'], 'evaluation image')} are shown by "
        f"{counted(counts['samples'], 'image')} of the input, {counted(counts['pairs'], 'pair')}: {done.report}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


@grouped
def filter_(
    inputs: Inputs,
    out: Out,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="CONDITION", help="Condition on a column, 'width >= 256'. Repeatable."),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="KEY=VALUE|NAME",
            help="Text filter: min_words=3 or your own, mypkg.no_memes. Repeatable.",
        ),
    ] = None,
    image_filters: Annotated[
        list[str] | None,
        typer.Option("--image-filter", metavar="NAME", help="Image filter of your own by dotted name. Repeatable."),
    ] = None,
    languages: Annotated[
        list[str] | None,
        typer.Option("--language", metavar="CODE", help="Keep texts in this language, by identification. Repeatable."),
    ] = None,
    keep: Keep = None,
    samples: Samples = None,
    *,
    order: OrderFlags,
    dataset: DatasetFlags,
    sets: StepSets = None,
    job: JobFlags,
) -> None:
    """Keep the samples for which conditions and filters hold.

    On our own datasets, conditions and text filters decode no picture, and what is kept is copied as it is.
    """
    if not (where or filters or image_filters or languages or keep):
        raise typer.BadParameter("name what to filter by: --where, --filter, --image-filter, --language or --keep")
    from openwit.pipeline.existing import Wanted, read_changes
    from openwit.pipeline.existing_api import text_settings

    wanted = Wanted(
        job.context.info_name or "",
        where=where or [],
        keep=keep,
        candidates=text_settings(_text_filters(filters or []), languages or []),
        image={"filters": image_filters} if image_filters else {},
        files=_given(samples=samples, **vars(order)),
        changes=read_changes(sets or []),
    )
    run_existing_command(job, inputs, wanted, out, dataset)


@grouped
def reshard(
    inputs: Inputs,
    out: Out,
    keep: Keep = None,
    samples: Samples = None,
    size: Annotated[
        str | None, typer.Option("--bytes", metavar="SIZE", help="Target size of a tar, instead: 500MB, 1GiB.")
    ] = None,
    form: Annotated[
        Literal["webdataset", "files", "parquet"] | None,
        typer.Option("--format", help="How samples are stored [default: as in the input]."),
    ] = None,
    *,
    order: OrderFlags,
    dataset: DatasetFlags,
    sets: StepSets = None,
    job: JobFlags,
) -> None:
    """Write shards of another size or order, of some or all."""
    from openwit.pipeline.existing import Wanted, read_changes

    files = _given(samples=samples, bytes=size, format=form, **vars(order))
    wanted = Wanted(job.context.info_name or "", keep=keep, files=files, changes=read_changes(sets or []))
    run_existing_command(job, inputs, wanted, out, dataset)


@grouped
def merge(
    inputs: Inputs,
    out: Out,
    duplicates: Annotated[
        Literal["drop", "keep"],
        typer.Option("--duplicates", help="Samples that an earlier input has, by uid, URL or bytes."),
    ] = "drop",
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="COLUMN", help="Leave a kept column out. Repeatable.")
    ] = None,
    samples: Samples = None,
    *,
    order: OrderFlags,
    dataset: DatasetFlags,
    sets: StepSets = None,
    job: JobFlags,
) -> None:
    """Join datasets into one; what several have is there once."""
    from openwit.pipeline.existing import Wanted, read_changes

    wanted = Wanted(
        job.context.info_name or "",
        without=without or [],
        duplicates=duplicates,
        files=_given(samples=samples, **vars(order)),
        changes=read_changes(sets or []),
    )
    run_existing_command(job, inputs, wanted, out, dataset)


def _given(**options: Any) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _text_filters(given: list[str]) -> dict[str, Any]:
    """Return settings of text filters: `KEY=VALUE`, and dotted names of the user's functions."""
    from openwit.schemas.common.settings import apply_override

    found: dict[str, Any] = {}
    custom = [text for text in given if "=" not in text]
    for text in given:
        if "=" in text:
            apply_override(found, text)
    return {**found, **({"custom": custom} if custom else {})}

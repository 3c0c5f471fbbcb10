"""Define the command that builds a dataset from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openwit.pipeline.cli.option_groups import grouped
from openwit.pipeline.cli.options import BEAM_FLAGS, JobFlags, RetryFailed, StepSets, make_job
from openwit.pipeline.stages.limits import HIGHEST_PRICE
from openwit.schemas.common.command import examples, make_console, path_or_url


def add_commands(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        context_settings=BEAM_FLAGS,
        epilog=examples(
            "wit build demo/recipe.yaml --workdir out/demo --set select.cap=100",
            "wit build recipe.yaml --runner flink -- --flink_master=localhost:8081",
            "wit build recipe.yaml --workdir gs://bucket/w --runner dataflow --check",
            "wit build recipe.yaml --plan --price-per-core-hour 0.05 --assume success_share=0.6",
        ),
    )(build)


@grouped
def build(
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
    sets: StepSets = None,
    *,
    job: JobFlags,
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
    if plan:
        from openwit.pipeline.cli.plan_report import run_plan

        run_plan(loaded, where, job, assume, price_per_core_hour)
        return
    if check:
        from openwit.pipeline.cli.check_report import run_check

        if not run_check(loaded, where, job, dataset):
            raise typer.Exit(2)
        return
    made = make_job(job)
    from openwit.pipeline.build import build as run_build
    from openwit.pipeline.cli.report import print_build, print_step

    console = make_console()
    for note in loaded.notes():
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    done = run_build(
        loaded,
        where,
        made,
        retry_failed=retry_failed,
        dataset_url=dataset,
        on_step=lambda result: print_step(console, result),
    )
    print_build(console, done)

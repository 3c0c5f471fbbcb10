"""Check a build for a Beam runner from the command line, and print what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from openwit.pipeline.execution.runners import make_engine, short_name
from openwit.schemas.common.command import make_console
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.parts import require_part

if TYPE_CHECKING:
    from openwit.pipeline.check.build_check import BuildCheck
    from openwit.pipeline.cli.options import JobFlags
    from openwit.pipeline.recipe import Recipe


def run_check(recipe: Recipe, workdir: Path, flags: JobFlags, dataset: str | None) -> bool:
    """Check a build, print a table and sentences, and return whether nothing is wrong.

    Raises:
        RecipeError: the runner is none of Beam's, or a flag is unknown.
    """
    if short_name(flags.runner) in ("local", "ray"):
        raise RecipeError(
            f"--check reads the graphs that a runner of Beam gets, and --runner {flags.runner} gets none: "
            "name a Beam runner, such as --runner dataflow"
        )
    require_part("build", "wit build --check")
    from openwit.pipeline.cli.options import show_library_messages

    console = make_console()
    show_library_messages(console)
    from openwit.pipeline.check.build_check import check_build
    from openwit.pipeline.execution.beam_engine import BeamEngine

    engine = make_engine(flags.runner, flags.workers, tuple(flags.context.args), cluster=flags.cluster)
    assert isinstance(engine, BeamEngine), "every other engine was refused"
    checked = check_build(recipe, str(workdir), engine, dataset=dataset)
    print_check(console, checked, engine.name)
    return checked.passed


def print_check(console: Console, checked: BuildCheck, runner: str) -> None:
    """Print the jobs, then what is wrong and what to know."""
    from openwit.pipeline.check.engine import PLANNED_TASKS

    table = Table(box=None, pad_edge=False)
    for name in ("step", "job"):
        table.add_column(name, no_wrap=True)
    for name in ("transforms", "shuffles", "graph bytes"):
        table.add_column(name, justify="right")
    table.add_column("verdict", overflow="fold")
    for job in checked.jobs:
        verdict = "; ".join(job.faults) or "ok"
        table.add_row(job.step, job.job, str(job.transforms), str(job.shuffles), f"{job.bytes:,}", verdict)
    console.print(table)
    console.print(f"Graph bytes are those of a job with {PLANNED_TASKS:,} tasks.", highlight=False)
    for note in checked.notes:
        console.print(f"Note: {note}", highlight=False, markup=False)
    for problem in checked.problems:
        console.print(f"Wrong: {problem}", highlight=False, markup=False)
    if checked.passed:
        console.print(f"The build can be given to {runner}; nothing was run.", highlight=False)

"""Run the steps that a command makes of its options, and print them as `wit build` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openwit.pipeline.cli.options import JobFlags, make_job
from openwit.schemas.common.command import make_console

if TYPE_CHECKING:
    from openwit.pipeline.build import BuildResult, StepResult
    from openwit.pipeline.step import Step


def run_steps(
    name: str,
    steps: Sequence[Step],
    out: str | Path,
    flags: JobFlags,
    *,
    inputs: Iterable[str] = (),
    work: Path | None = None,
    description: str = "",
    retry_failed: bool = False,
    check: Callable[[StepResult], None] = lambda _result: None,
) -> BuildResult:
    """Build the dataset `out` from steps of a recipe; print a line per step, the funnel, and where the dataset is.

    A second run does nothing; after an interruption it resumes.

    Args:
        name: of the dataset; empty for the name of its folder.
        steps: of a recipe; those that are missing and can pass everything on are inserted and said.
        out: folder or URL of the dataset.
        flags: how the command runs.
        inputs: what the command reads: `out` must not lie in it, nor hold it.
        work: folder of the steps; OUT.work by default.
        description: of the dataset, for its card.
        retry_failed: retry images whose download failed for a transient reason.
        check: called with each finished step before the next one begins; may raise an error of bad input.

    Raises:
        OpenWITError: bad input; the steps do not fit each other; `out` holds something else.
    """
    from openwit.pipeline.direct import build_to, recipe_of

    recipe = recipe_of(steps, out, name=name, description=description)
    job = make_job(flags)
    from openwit.pipeline.cli.report import print_build, print_step

    console = make_console()
    for note in recipe.notes():
        console.print(note, highlight=False, markup=False, soft_wrap=True)

    def on_step(result: StepResult) -> None:
        print_step(console, result)
        check(result)

    done = build_to(
        recipe,
        out,
        job,
        inputs=inputs,
        work=work,
        retry_failed=retry_failed,
        on_step=on_step,
    )
    print_build(console, done)
    return done

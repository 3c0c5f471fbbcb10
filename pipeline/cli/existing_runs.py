"""Run commands on data that exists, and print what they read, each step, and the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from openwit.pipeline.cli.options import DatasetFlags, JobFlags, make_job
from openwit.schemas.common.command import make_console
from openwit.schemas.common.wording import counted

if TYPE_CHECKING:
    from openwit.pipeline.existing import Existing, Wanted
    from openwit.pipeline.existing_run import Done
    from openwit.pipeline.recipe import Recipe


def run_existing_command(flags: JobFlags, inputs: list[str], wanted: Wanted, out: Path, dataset: DatasetFlags) -> Done:
    """Run a command on data that exists, and print it as a build."""
    from openwit.pipeline.existing_run import run_existing

    show = Shown(make_console())
    job = make_job(flags)
    name, work = dataset.name, dataset.work
    done = run_existing(inputs, wanted, out, job, name=name, work=work, on_recipe=show.recipe, on_step=show.step)
    show.done(done)
    return done


class Shown:
    """Print what a command reads, each step, and the result."""

    def __init__(self, console: Console, *, makes_dataset: bool = True) -> None:
        self._console = console
        self._makes_dataset = makes_dataset

    def recipe(self, existing: Existing, recipe: Recipe) -> None:
        if existing.sources is not None:
            total = sum(s.samples for manifest in existing.sources.manifests for s in manifest.shards)
            what = f"{counted(len(existing.names), 'dataset')} of ours, {counted(total, 'sample')}, copied as they are"
        else:
            what = "not all are datasets of ours: every image goes through the stages of a build"
        self._say(f"Inputs: {what}.")
        for note in recipe.notes():
            self._say(note)

    def step(self, result: Any) -> None:
        from openwit.pipeline.cli.report import print_step

        print_step(self._console, result, dropped=self._makes_dataset)

    def done(self, done: Done) -> None:
        from openwit.pipeline.cli.report import print_build

        print_build(self._console, done.build)
        for step in done.build.steps:
            listed = step.manifest.extra.get("listed")
            if listed and listed["found"] < listed["uids"]:
                missing = listed["uids"] - listed["found"]
                self._say(f"{missing:,} of {listed['uids']:,} uids of the list are in no input.")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

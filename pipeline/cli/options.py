"""What the commands of `wit` share: common options, settings from flags, and how they run a stage."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from openwit.schemas.common.parts import require_part
from openwit.schemas.common.settings import Settings, apply_override, parse_settings

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job
    from openwit.pipeline.stages.base import BuildContext, InputMap, StageRun

SettingsT = TypeVar("SettingsT", bound=Settings)

RunnerName = Annotated[str, typer.Option("--runner", help="local | portable | flink | spark | dataflow")]
Workers = Annotated[int, typer.Option("--workers", help="worker processes of the local runner")]
Replace = Annotated[bool, typer.Option("--replace", help="rebuild what other settings or inputs made here")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="a setting of the stage, as key=value; repeatable")]
Out = Annotated[Path, typer.Option("--out", help="folder to write")]
Input = Annotated[Path, typer.Option("--input", help="folder the stage before wrote")]
BEAM_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": False}


def make_job(runner: str, workers: int, replace: bool, context: typer.Context) -> Job:
    """The job of a command."""
    require_part("build", f"wit {context.info_name}")
    quiet()
    from openwit.pipeline.cli.progress import ConsoleProgress, show_messages
    from openwit.pipeline.execution.beam_engine import BeamEngine
    from openwit.pipeline.execution.stage import Job

    console = Console()
    show_messages(console)
    return Job(BeamEngine(runner, workers, tuple(context.args)), ConsoleProgress(console), replace=replace)


def quiet() -> None:
    """Keeps the libraries' own chatter off a user's screen; errors still come through."""
    warnings.filterwarnings("ignore", module="apache_beam")
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def make_settings(model: type[SettingsT], command: str, flags: dict[str, Any], sets: list[str] | None) -> SettingsT:
    """Settings of a stage from a command's flags and its `--set` options."""
    raw = {key: value for key, value in flags.items() if value is not None}
    for override in sets or []:
        apply_override(raw, override)
    return parse_settings(raw, model, f"wit {command}")


@dataclass(frozen=True)
class JobFlags:
    """The flags that say how a command runs."""

    runner: str
    workers: int
    replace: bool
    context: typer.Context


def run_stage_command(
    name: str,
    job: JobFlags,
    inputs: InputMap,
    out: Path,
    *,
    flags: dict[str, Any] | None = None,
    sets: list[str] | None = None,
    build: BuildContext | None = None,
    shown: str = "",
) -> StageRun:
    """Runs one stage as a command, and prints its funnel.

    Args:
        name: of the stage in the registry.
        inputs: port to folders or files.
        out: folder that the stage writes.
        flags: settings that have flags of their own, None where a flag was not given.
        sets: `key=value` of the stage's settings.
        build: for stages that need to know more.
        shown: what to call the output in messages, where it is not `out`.
    """
    from openwit.pipeline.stages import stage_named

    stage = stage_named(name)
    settings = make_settings(stage.settings, name, flags or {}, sets)
    made = make_job(job.runner, job.workers, job.replace, job.context)
    from openwit.pipeline.cli.report import print_steps

    done = stage.run(made, settings, inputs, out, build=build)
    console = Console()
    if not done.executed:
        console.print(f"Nothing to do: {shown or out} holds this {name} stage, complete.", highlight=False)
    print_steps(console, done.manifest.funnel)
    return done

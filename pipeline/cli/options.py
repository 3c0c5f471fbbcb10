"""Share options, settings from flags, and the run of a stage among the commands of `wit`."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from openwit.pipeline.execution.runners import RUNNER_NAMES, WorkerCount, make_engine, parse_workers, short_name
from openwit.schemas.common.command import make_console, path_or_url
from openwit.schemas.common.parts import require_part
from openwit.schemas.common.settings import Settings, apply_override, parse_settings

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job
    from openwit.pipeline.stages.base import BuildContext, InputMap, StageRun

SettingsT = TypeVar("SettingsT", bound=Settings)


def _workers(text: Any) -> WorkerCount:
    """Read `--workers`.

    Raises:
        BadParameter: it is neither `auto` nor a number from 1.
    """
    try:
        return parse_workers(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _runner(text: Any) -> str:
    """Read `--runner`; a name that only Beam can know is left to it.

    Raises:
        BadParameter: it is no name of ours, and does not look like one of Beam's.
    """
    name = short_name(str(text))
    if name not in RUNNER_NAMES and "." not in name and not name.endswith("Runner"):
        known = ", ".join(map(repr, RUNNER_NAMES))
        raise typer.BadParameter(f"{name!r} is not one of {known}, nor a runner of Beam (SomeRunner, package.Class)")
    return name


Runner = Annotated[
    Any,
    typer.Option(
        "--runner",
        metavar="NAME",
        parser=_runner,
        help=f"One of {', '.join(RUNNER_NAMES)}, or another of Beam by name or class; Beam's flags follow after --.",
    ),
]
Workers = Annotated[
    Any,
    typer.Option(
        "--workers", metavar="N|auto", parser=_workers, help="Worker processes of local and beam; auto: all cores."
    ),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Rebuild a folder that was made with other settings or inputs.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of the stage. Repeatable."),
]
StepSets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STEP.KEY=VALUE", help="Override a setting of a step. Repeatable."),
]
Name = Annotated[str, typer.Option("--name", help="Dataset name [default: name of its folder].")]
Work = Annotated[
    Path | None,
    typer.Option("--work", parser=path_or_url, metavar="FOLDER|URL", help="Work folder [default: OUT.work]."),
]
Out = Annotated[Path, typer.Option("--out", parser=path_or_url, metavar="FOLDER|URL", help="Folder or URL to write.")]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Retry images whose download failed with a transient error.")
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="HOST:PORT|auto", help="Address of the cluster of ray, flink, spark, portable."),
]
BEAM_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": False}


@dataclass(frozen=True)
class JobFlags:
    """The options of a command that control how it runs, and the command itself."""

    context: typer.Context
    runner: Runner = "local"
    workers: Workers = "auto"
    cluster: Cluster = None
    replace: Replace = False


@dataclass(frozen=True)
class DatasetFlags:
    """The options of a command that writes a finished dataset: its name, and its work folder."""

    name: Name = ""
    work: Work = None


def make_job(flags: JobFlags) -> Job:
    """Make the job of a command, which shows progress and messages on the terminal."""
    require_part("build", f"wit {flags.context.info_name}")
    console = make_console()
    show_library_messages(console)
    from openwit.pipeline.cli.progress import ConsoleProgress
    from openwit.pipeline.execution.stage import Job

    engine = make_engine(flags.runner, flags.workers, tuple(flags.context.args), cluster=flags.cluster)
    engine.check()
    # Workers that end by themselves while the interpreter ends would disturb it.
    flags.context.call_on_close(engine.close)
    return Job(engine, ConsoleProgress(console), replace=flags.replace)


def show_library_messages(console: Console) -> None:
    """Show OpenWIT's warnings on a console, and of other libraries errors only."""
    from openwit.pipeline.cli.progress import show_messages

    warnings.filterwarnings("ignore", module="apache_beam")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    show_messages(console)


def make_settings(model: type[SettingsT], command: str, flags: dict[str, Any], sets: list[str] | None) -> SettingsT:
    """Make the settings of a stage from a command's flags and its `--set` options.

    Raises:
        RecipeError: a key or value is wrong.
    """
    raw = {key: value for key, value in flags.items() if value is not None}
    for override in sets or []:
        apply_override(raw, override)
    return parse_settings(raw, model, f"wit {command}")


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
    """Run one stage as a command and print its funnel.

    Args:
        name: of the stage in the registry.
        inputs: port to folders or files.
        out: folder that the stage writes.
        flags: settings that have their own flags, None if a flag was not given.
        sets: `key=value` of the stage's settings.
        build: for stages that need to know more.
        shown: name of the output in messages, if it is not `out`.
    """
    from openwit.pipeline.stages import stage_named

    stage = stage_named(name)
    settings = make_settings(stage.settings, name, flags or {}, sets)
    made = make_job(job)
    from openwit.pipeline.cli.report import print_steps

    done = stage.run(made, settings, inputs, out, build=build)
    console = make_console()
    if not done.executed:
        console.print(f"Nothing to do: {shown or out} holds this {name} stage, complete.", highlight=False)
    print_steps(console, done.manifest.funnel)
    return done

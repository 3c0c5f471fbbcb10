"""What the commands of `wit` share: common options, the job they run as, settings from flags, the closing report."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from openwit.schemas.common.parts import require_part
from openwit.schemas.common.settings import Settings, apply_override, parse_settings

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job, StageManifest

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


def report(name: str, manifest: StageManifest, did: bool, out: Path | str) -> None:
    """What a stage did."""
    from openwit.pipeline.reporting import print_steps

    console = Console()
    if not did:
        console.print(f"Nothing to do: {out} holds this {name} stage, complete.", highlight=False)
    print_steps(console, manifest.funnel)

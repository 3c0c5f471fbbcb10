"""The commands that begin something: copy a recipe, run the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openwit.schemas.common.parts import require_part


def add_commands(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (init, demo):
        app.command()(command)


def init(
    name: Annotated[str | None, typer.Argument(help="what to copy; without it, everything there is is listed")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder to write [default: NAME]")] = None,
) -> None:
    """Copies a recipe and training configurations to edit, or lists what there is. Never overwrites a file.

    Example: wit init pairs --out my-dataset
    """
    from openwit.workflows.starters import copy_starter, starters

    if name is None:
        found = starters()
        width = max(len(starter.name) for starter in found)
        for starter in found:
            print(f"{starter.name:<{width}}  {starter.about}")
            print(f"{'':<{width}}  {', '.join(path.name for path in starter.files)}")
        print("\nCopy one with: wit init NAME")
        return
    written = copy_starter(name, out or Path(name))
    for path in written:
        print(f"wrote {path}")


def demo(
    out: Annotated[Path, typer.Option("--out", help="folder to write")] = Path("out/demo"),
    port: Annotated[int, typer.Option("--port", help="port on loopback; 0 takes a free one", min=0, max=65535)] = 8765,
    concepts: Annotated[int | None, typer.Option("--concepts", help="use only the first N emoji", min=1)] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="remove the web of an earlier run and make it again")] = False,
) -> None:
    """Runs the whole chain here: draws a small web, crawls it, builds a dataset, trains a CLIP and measures it.

    Example: wit demo --out out/demo
    """
    for part in ("build", "train", "demo"):
        require_part(part, "wit demo")
    from rich.console import Console

    from openwit.workflows.demo.job import run_demo

    raise typer.Exit(run_demo(out, port, Console(), concepts=concepts, fresh=fresh))

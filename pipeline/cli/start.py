"""Define the commands to start with: copy a recipe, run the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openwit.pipeline.stages.limits import MOST_CONCEPTS
from openwit.schemas.common.command import examples, make_console
from openwit.schemas.common.parts import require_part


def add_commands(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog=examples("wit init", "wit init pairs --out my-pairs"))(init)
    app.command(epilog=examples("wit settings select", "wit settings --json-schema > recipe.schema.json"))(settings)
    app.command(epilog=examples("wit workers --port 50000"))(workers)
    app.command(epilog=examples("wit demo", "wit demo --out out/small --concepts 100"))(demo)


def init(
    name: Annotated[
        str | None, typer.Argument(help="What to copy; without it, all are listed.", metavar="NAME")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write [default: NAME].")] = None,
) -> None:
    """Copy a recipe or training configuration, or list them.

    A file that exists is never overwritten.
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


def workers(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where runners ask for workers.")] = 50000,
) -> None:
    """Start workers of Beam's runners on this machine.

    It serves environments of the type EXTERNAL until it is ended.
    """
    require_part("build", "wit workers")
    from openwit.pipeline.cli.options import show_library_messages

    show_library_messages(make_console())
    from openwit.pipeline.execution.beam_pool import serve_pool

    serve_pool(port)


def settings(
    key: Annotated[
        str | None, typer.Argument(help="A step, a key such as fetch.image, or a word.", metavar="KEY")
    ] = None,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema of recipes, for editors.")
    ] = False,
) -> None:
    """List settings of steps and inputs: type, default, meaning.

    The keys are those of a recipe and of `wit build --set`; the command of a step takes them without the step's name.
    Those of `inputs.SOURCE` are of a recipe's list `inputs`, which `wit inputs` fetches.
    """
    from openwit.pipeline.inputs.settings import SOURCES
    from openwit.pipeline.recipe_schema import recipe_schema
    from openwit.pipeline.stages import all_stages
    from openwit.schemas.common.command import print_settings
    from openwit.schemas.common.settings_reference import settings_reference

    named = [(stage.settings, stage.name) for stage in all_stages()]
    named += [(model, f"inputs.{source}") for source, model in SOURCES.items()]
    found = [setting for model, prefix in named for setting in settings_reference(model, prefix)]
    print_settings(found, key, schema=recipe_schema if json_schema else None)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("out/demo"),
    port: Annotated[
        int, typer.Option("--port", help="Port on loopback; 0 for any free port.", min=0, max=65535)
    ] = 8765,
    concepts: Annotated[
        int | None, typer.Option("--concepts", help="Use the first N emoji only.", min=1, max=MOST_CONCEPTS)
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the web of an earlier run and draw it again.")
    ] = False,
) -> None:
    """Run the whole chain: draw a web, build a dataset, train.

    The small web is drawn and served on this machine, crawled, made into a dataset, and a CLIP is trained on it and
    evaluated. Nothing outside this machine is contacted.
    """
    for part in ("build", "train", "demo"):
        require_part(part, "wit demo")
    from openwit.schemas.common.command import make_console
    from openwit.workflows.demo.job import run_demo

    raise typer.Exit(run_demo(out, port, make_console(), concepts=concepts, fresh=fresh))

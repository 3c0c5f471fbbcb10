"""Define the command `wit`. Beam is imported by the commands that run it, so that `--help` is fast."""

from __future__ import annotations

import typer

from openwit.pipeline.cli import build, dataset, dedup, existing, fetch, inputs, lock, match, pairs, shards, start
from openwit.schemas.common.command import Version, entry_point, examples

app = typer.Typer(
    name="wit",
    help="Build image-text datasets for CLIP training from web crawls, dumps and tables.\n\n"
    "wit build runs every step of a recipe; each stage is also a command of its own.",
    epilog=examples(
        "wit demo                                   run the whole chain on a small drawn web",
        "wit init pairs --out my-pairs              copy a recipe to edit",
        "wit build my-pairs/pairs.yaml              build its dataset, or resume",
        "wit explain out/pairs/dataset 0000000012   show where a sample came from",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root(version: Version = False) -> None:
    pass


for commands in (build, pairs, dedup, shards, fetch, inputs, dataset, lock, match, existing, start):
    commands.add_commands(app)

main = entry_point(app, "wit")

if __name__ == "__main__":
    main()

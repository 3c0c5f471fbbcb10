"""Define the commands that lock a dataset and fetch a locked one again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openwit.pipeline.cli.dataset import Dataset
from openwit.schemas.common.command import examples, make_console, path_or_url
from openwit.schemas.common.parts import require_part
from openwit.schemas.common.wording import counted


def add_commands(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog=examples("wit lock out/demo/dataset --out demo.lock.parquet"))(lock)


def lock(
    dataset: Dataset,
    out: Annotated[
        Path, typer.Option("--out", parser=path_or_url, metavar="FILE|URL", help="Lockfile to write.")
    ] = Path("lock.parquet"),
    pages: Annotated[bool, typer.Option("--pages", help="Record the page of each text, too.")] = False,
) -> None:
    """Write what is needed to fetch a dataset again: URLs, texts, queries, checksums; no picture.

    Two small files are written beside it: the queries, and checksums in the format of sha256sum.
    """
    require_part("build", "wit lock")
    from openwit.pipeline.rehydration.lock_dataset import lock_dataset

    notes = lock_dataset(dataset, out, pages=pages)
    console = make_console()
    counts = f"{counted(notes.samples, 'sample')} with {counted(notes.pairs, 'text')}"
    console.print(f"Wrote {out}: {counts}.", highlight=False, markup=False, soft_wrap=True)
    if notes.without_url:
        console.print(
            f"{counted(notes.without_url, 'sample')} without a URL: only whoever has the input files that the lock "
            "names can have their images again.",
            highlight=False,
            soft_wrap=True,
        )
    if not notes.descriptors:
        console.print(
            "The build's stages/ are not beside the dataset: the lock holds perceptual hashes, but no descriptors.",
            highlight=False,
            soft_wrap=True,
        )

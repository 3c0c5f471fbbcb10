"""Define the commands that lock a dataset and fetch a locked one again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from openwit.pipeline.cli.dataset import Dataset
from openwit.pipeline.cli.option_groups import grouped
from openwit.pipeline.cli.options import BEAM_FLAGS, JobFlags, Work, make_job
from openwit.schemas.common.command import examples, make_console, path_or_url
from openwit.schemas.common.parts import require_part
from openwit.schemas.common.wording import counted

if TYPE_CHECKING:
    from openwit.pipeline.rehydration.lockfile import Lock
    from openwit.pipeline.rehydration.run import Rehydrated

_MOST_ROUNDS = 50
_MEANINGS = {
    "same": "the same bytes",
    "reencoded": "the same picture in another encoding",
    "changed": "another picture; dropped",
    "gone": "cannot be had any more",
    "opted_out": "asks to stay away since",
}


def add_commands(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog=examples("wit lock out/demo/dataset --out demo.lock.parquet"))(lock)
    app.command(
        context_settings=BEAM_FLAGS,
        epilog=examples(
            "wit rehydrate demo.lock.parquet --out demo-again",
            "wit rehydrate demo.lock.parquet --out demo-again --dry-run",
            "wit rehydrate demo.lock.parquet --out demo-again --candidates out/demo/stages/candidates",
        ),
    )(rehydrate)


def lock(
    dataset: Dataset,
    out: Annotated[
        Path, typer.Option("--out", parser=path_or_url, metavar="FILE|URL", help="Lockfile to write.")
    ] = Path("lock.parquet"),
    pages: Annotated[bool, typer.Option("--pages", help="Record the page of each text, too.")] = False,
) -> None:
    """Write what is needed to fetch a dataset again.

    That is URLs, texts, queries, checksums and perceptual hashes, and no picture. Two small files are written beside
    it: the queries, and checksums in the format of sha256sum.
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


@grouped
def rehydrate(
    lockfile: Annotated[
        Path, typer.Argument(parser=path_or_url, help="Lockfile that `wit lock` wrote.", metavar="LOCK.parquet")
    ],
    out: Annotated[Path, typer.Option("--out", parser=path_or_url, metavar="FOLDER|URL", help="Dataset to write.")],
    candidates: Annotated[
        str | None,
        typer.Option(
            "--candidates",
            metavar="FOLDER|TABLE",
            help="Refill queries from these: the folder of the build's candidates, of the build, or a table.",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=_MOST_ROUNDS, help="Maximum number of rounds of refilling.")
    ] = 10,
    work: Work = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what the lock asks for, and fetch nothing.")
    ] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="STEP.KEY=VALUE", help="Override a setting of fetch, shard or candidates. Repeatable."
        ),
    ] = None,
    *,
    job: JobFlags,
) -> None:
    """Fetch a locked dataset again, verify and refill it.

    Run the same command again after an interruption: finished steps and tasks are skipped. To refill later, or with
    more rounds, add --replace: what was fetched is kept, and the dataset is written again.
    """
    require_part("build", "wit rehydrate")
    from openwit.pipeline.rehydration.lockfile import load_lock

    lock = load_lock(lockfile)
    console = make_console()
    if dry_run:
        _print_plan(console, lock)
        return
    from openwit.pipeline.cli.report import print_steps
    from openwit.pipeline.rehydration.run import Rehydration

    made = make_job(job)
    folder = work or out.with_name(f"{out.name}.work")
    done = Rehydration(
        lock,
        out.absolute(),
        folder.absolute(),
        made,
        candidates=candidates,
        sets=sets or [],
        rounds=rounds,
        on_step=lambda _name, manifest: print_steps(console, manifest.funnel) if manifest.funnel else None,
    ).run()
    _print_done(console, done, lock, out)


def _print_plan(console: Console, lock: Lock) -> None:
    from openwit.pipeline.rehydration.locked import inputs_here

    notes = lock.notes
    console.print(
        f"{notes.dataset}: {counted(notes.samples, 'sample')} with {counted(notes.pairs, 'text')}, "
        f"{notes.samples - notes.without_url:,} to ask the web for.",
        highlight=False,
        soft_wrap=True,
    )
    if notes.without_url:
        here = inputs_here(lock)
        console.print(
            f"{notes.without_url:,} lay in input files, of which {here:,} can be read here.",
            highlight=False,
            soft_wrap=True,
        )
    cap = "no query drew; nothing can be refilled" if notes.cap is None else f"queries drew up to {notes.cap:,} pairs"
    console.print(f"Balance {notes.balance}, seed {notes.seed}: {cap}.", highlight=False, soft_wrap=True)


def _print_done(console: Console, done: Rehydrated, lock: Lock, out: Path) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("samples", "status", "meaning"):
        table.add_column(column, justify="right" if column == "samples" else "left")
    for status, meaning in _MEANINGS.items():
        table.add_row(f"{done.statuses.get(status, 0):,}", status, meaning)
    table.add_row(f"{lock.notes.samples:,}", "locked", "")
    console.print(table)
    if done.short is not None:
        console.print(
            f"Refilled with {counted(done.refilled, 'image')} of {done.asked:,} asked for, in "
            f"{counted(done.rounds, 'round')}; {counted(done.short, 'query', plural='queries')} below the cap, their "
            "pool is exhausted.",
            highlight=False,
            soft_wrap=True,
        )
    if done.untried:
        console.print(
            f"{counted(done.untried, 'image')} drawn and not asked for: the rounds are used up. Run again with more "
            "--rounds and --replace.",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"Wrote {out}: {counted(done.samples, 'sample')} with {counted(done.pairs, 'text')}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )

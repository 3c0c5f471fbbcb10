"""The commands that work on a finished dataset, wherever it lies: card, explain, verify, remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from openwit.pipeline.cli.options import Sets, make_job, make_settings, quiet
from openwit.schemas.common.parts import require_part

if TYPE_CHECKING:
    from openwit.pipeline.dataset.removal_journal import Journal
    from openwit.pipeline.dataset.removal_list import RemovalList

Dataset = Annotated[str, typer.Argument(help="dataset folder, or its URL (s3://bucket/name, gs://…)")]
_SHOWN = 20


def add_commands(app: typer.Typer) -> None:
    """Registers the commands."""
    for command in (card, explain, verify, remove):
        app.command()(command)


def card(context: typer.Context, dataset: Dataset, sets: Sets = None) -> None:
    """Writes card.html and card.json of a dataset.

    Example: wit card out/demo/dataset
    """
    from openwit.pipeline.stages.card import HTML, Card

    settings = make_settings(Card.settings, "card", {}, sets)
    job = make_job("local", 1, False, context)
    done = Card().run(job, settings, {"dataset": dataset}, Path(dataset))
    shown = f"{'Wrote' if done.executed else 'Nothing to do:'} {dataset.rstrip('/')}/{HTML}"
    Console().print(shown, highlight=False)


def explain(
    dataset: Dataset,
    what: Annotated[str, typer.Argument(help="image URL, or key of a sample", metavar="URL_OR_KEY")],
) -> None:
    """Says where an image comes from and what chose it, or at which stage it left and why; exit code 1 if unknown.

    Example: wit explain out/demo/dataset 000000012
    """
    from openwit.pipeline.cli.explain_report import print_explanation
    from openwit.pipeline.explain.lookup import explain as look_up

    kept, dropped = look_up(dataset, what)
    print_explanation(Console(), kept, dropped)
    if not kept and not dropped:
        print(f"{what} is neither in {dataset} nor among what left at a stage of its build")
        raise SystemExit(1)


def verify(dataset: Dataset) -> None:
    """Checks every checksum, count and schema of a dataset; exit code 1 and a list when something is off.

    Example: wit verify out/demo/dataset
    """
    from openwit.pipeline.cli.progress import Steps
    from openwit.pipeline.dataset.verify import verify_dataset

    with Steps(Console(stderr=True), "bytes") as steps:
        problems = verify_dataset(dataset, lambda done, of: steps.show("Checking", done, of))
    for problem in problems:
        print(problem)
    if problems:
        raise SystemExit(1)
    print(f"{dataset}: every file, count and schema is as the manifest says")


def remove(
    dataset: Dataset,
    names: Annotated[Path, typer.Option("--list", help="URLs, hashes (sha256, phash) or domains, one a line")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go, and change nothing")] = False,
) -> None:
    """Takes images out of a finished dataset: by URL, by hash of their bytes, or by domain and its subdomains.

    Example: wit remove out/demo/dataset --list opted-out.txt --dry-run
    """
    require_part("build", "wit remove")
    quiet()
    from openwit.pipeline.api import remove as take_out
    from openwit.pipeline.cli.progress import Steps

    wanted = load_list(names)
    with Steps(Console(stderr=True), "shards") as steps:
        plan = take_out(dataset, wanted, dry_run=dry_run, show_progress=steps.show)
    _say_removed(Console(), dataset, wanted, plan, dry_run)


def load_list(path: Path) -> RemovalList:
    """The list that `--list` names."""
    from openwit.pipeline.dataset.removal_list import load_removal_list

    return load_removal_list(path)


def _say_removed(console: Console, dataset: str, wanted: RemovalList, plan: Journal, dry_run: bool) -> None:
    from openwit.pipeline.dataset.remove import by_kind

    gone = plan.gone()
    if gone:
        kinds = ", ".join(f"{n:,} by {kind}" for kind, n in by_kind(plan).items())
        pairs = sum(sample.pairs for sample in gone)
        verb = "Would remove" if dry_run else "Removed"
        said = f"{verb} {len(gone):,} samples with {pairs:,} texts from {len(plan.shards):,} shards ({kinds})"
        console.print(f"{said} of {dataset}.", highlight=False, soft_wrap=True)
        if dry_run:
            _print_some(console, [f"{sample.key}  {sample.url}" for sample in gone])
    else:
        console.print(f"Nothing to remove: {dataset} holds nothing that the list names.", highlight=False)
    matched = set(plan.matched)
    idle = [f"line {number}: {word}" for number, word in wanted.words.items() if number not in matched]
    if idle and gone:
        console.print(f"{len(idle):,} of {len(wanted.words):,} lines name nothing that is in it:", highlight=False)
        _print_some(console, idle)
    if gone and not dry_run:
        console.print("The build's stages/ still hold copies: delete them.", soft_wrap=True)


def _print_some(console: Console, lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if len(lines) > _SHOWN:
        console.print(f"  … and {len(lines) - _SHOWN:,} more", highlight=False)

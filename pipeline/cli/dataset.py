"""Define the commands on a finished dataset, local or at a URL: card, explain, verify, remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from openwit.pipeline.cli.options import JobFlags, Sets, make_job, make_settings, show_library_messages
from openwit.schemas.common.command import examples, make_console
from openwit.schemas.common.parts import require_part
from openwit.schemas.common.printable import printable
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.common.wording import counted

if TYPE_CHECKING:
    from openwit.pipeline.dataset.removal_journal import Journal
    from openwit.pipeline.dataset.removal_list import RemovalList

Dataset = Annotated[
    str, typer.Argument(help="Dataset folder, or its URL (s3://bucket/name, gs://bucket/name, …).", metavar="DATASET")
]
_SHOWN = 20


def add_commands(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog=examples("wit card out/demo/dataset", "wit card out/demo/dataset --set examples=100"))(card)
    app.command(
        epilog=examples(
            "wit explain out/demo/dataset 0000000012", "wit explain out/demo/dataset https://example.org/kite.jpg"
        )
    )(explain)
    app.command(epilog=examples("wit verify out/demo/dataset"))(verify)
    app.command(
        epilog=examples(
            "wit remove out/demo/dataset --list opted-out.txt --dry-run",
            "wit remove out/demo/dataset --list opted-out.txt",
        )
    )(remove)


def card(context: typer.Context, dataset: Dataset, sets: Sets = None) -> None:
    """Write the report on a dataset: card.html and card.json."""
    from openwit.pipeline.stages.card import HTML, Card

    settings = make_settings(Card.settings, "card", {}, sets)
    job = make_job(JobFlags(context, workers=1))
    done = Card().run(job, settings, {"dataset": dataset}, as_path(dataset))
    shown = f"{'Wrote' if done.executed else 'Nothing to do:'} {dataset.rstrip('/')}/{HTML}"
    make_console().print(shown, highlight=False)


def explain(
    dataset: Dataset,
    what: Annotated[str, typer.Argument(help="Image URL, key of a sample, or ID of a pair.", metavar="URL_OR_KEY")],
) -> None:
    """Show where an image came from, or why it was dropped.

    For a sample: its texts, their sources and the queries that drew them. For a dropped pair: the stage and the
    reason, if the build's stages/ are beside the dataset. The exit code is 1 if nothing is known of the image.
    """
    from openwit.pipeline.cli.explain_report import print_explanation
    from openwit.pipeline.explain.lookup import explain as look_up
    from openwit.pipeline.explain.lookup import is_unfinished, scheme_of

    kept, dropped = look_up(dataset, what)
    print_explanation(make_console(), kept, dropped)
    if not kept and not dropped:
        scheme = scheme_of(what)
        if scheme not in ("", "http", "https"):
            print(
                printable(f"{what}: the scheme {scheme} is not supported; images are fetched by http and https only")
            )
        elif is_unfinished(dataset):
            print(printable(f"{what} is not among the pairs that the build, which is not finished, dropped so far"))
        else:
            print(printable(f"{what} is neither in {dataset} nor among the pairs that its build dropped"))
        raise SystemExit(1)


def verify(dataset: Dataset) -> None:
    """Check every checksum, count and schema of a dataset.

    The exit code is 1 if something does not match the manifest; each problem is printed on a line.
    """
    from openwit.pipeline.cli.progress import Steps
    from openwit.pipeline.dataset.verify import verify_dataset

    with Steps(make_console(stderr=True), "bytes") as steps:
        problems = verify_dataset(dataset, lambda done, of: steps.show("Checking", done, of))
    for problem in problems:
        print(printable(problem))
    if problems:
        raise SystemExit(1)
    print(f"{printable(dataset)}: every file, count and schema matches the manifest")


def remove(
    dataset: Dataset,
    names: Annotated[Path, typer.Option("--list", help="URLs, hashes (sha256, phash) and domains, one per line.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and change nothing.")
    ] = False,
) -> None:
    """Remove images of a dataset by URL, hash or domain.

    A domain stands for its subdomains too. Only the shards that hold a removed image are rewritten.
    """
    require_part("build", "wit remove")
    show_library_messages(make_console(stderr=True))
    from openwit.pipeline.api import remove as remove_samples
    from openwit.pipeline.cli.progress import Steps

    wanted = load_list(names)
    with Steps(make_console(stderr=True), "shards") as steps:
        plan = remove_samples(dataset, wanted, dry_run=dry_run, show_progress=steps.show)
    _print_removal(make_console(), dataset, wanted, plan, dry_run)


def load_list(path: Path) -> RemovalList:
    """Load the list that `--list` names."""
    from openwit.pipeline.dataset.removal_list import load_removal_list

    return load_removal_list(path, once=True)


def _print_removal(console: Console, dataset: str, wanted: RemovalList, plan: Journal, dry_run: bool) -> None:
    from openwit.pipeline.dataset.remove import by_kind

    gone = plan.gone()
    if gone:
        kinds = ", ".join(f"{n:,} by {kind}" for kind, n in by_kind(plan).items())
        pairs = sum(sample.pairs for sample in gone)
        verb = "Would remove" if dry_run else "Removed"
        parts = (counted(len(gone), "sample"), counted(pairs, "text"), counted(len(plan.shards), "shard"))
        counts = f"{parts[0]} with {parts[1]} from {parts[2]} ({kinds})"
        console.print(f"{verb} {counts} of {dataset}.", highlight=False, soft_wrap=True)
        if dry_run:
            _print_some(console, [f"{sample.key}  {sample.url}" for sample in gone])
    else:
        console.print(f"Nothing to remove: no line of the list matches an image of {dataset}.", highlight=False)
    matched = set(plan.matched)
    unmatched = [f"line {number}: {word}" for number, word in wanted.words.items() if number not in matched]
    if unmatched and gone:
        lines = f"{len(unmatched):,} of {len(wanted.words):,} lines match nothing in the dataset:"
        console.print(lines, highlight=False)
        _print_some(console, unmatched)
    if gone and not dry_run:
        console.print("The build's stages/ still hold the images: delete that folder.", soft_wrap=True)


def _print_some(console: Console, lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        console.print(f"  {printable(line)}", markup=False, highlight=False, soft_wrap=True)
    if len(lines) > _SHOWN:
        console.print(f"  … and {len(lines) - _SHOWN:,} more", highlight=False)

"""Print a build on the console: one line per step, then the funnel with all drop reasons."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from openwit.pipeline.build import BuildResult, StepResult
from openwit.pipeline.execution.stage import StageManifest
from openwit.pipeline.stages.candidates.extraction_stats import extraction_stats
from openwit.pipeline.stages.card import HTML as CARD_HTML
from openwit.pipeline.stages.dedup import EVALUATION_UNIT, DedupPaths
from openwit.schemas.common.printable import printable
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.manifest import DatasetManifest, FunnelStep
from openwit.schemas.tables.candidates import DAMAGE_FILE

_REASONS_SHOWN = 5


def print_step(console: Console, result: StepResult, *, dropped: bool = True) -> None:
    """Print one line per finished step, and what decontamination dropped, or found if nothing is dropped."""
    done = f"{result.seconds:5.1f} s" if result.executed else "done before"
    funnel = result.manifest.funnel
    rows = f"{funnel[-1].rows_in:>9,} {funnel[-1].unit} in  {funnel[-1].rows_out:>9,} out" if funnel else ""
    console.print(Text.assemble((f"{result.name:<11}", "bold"), f" {rows}   {done}"), highlight=False)
    print_excluded(console, result.manifest, as_path(result.folder), dropped=dropped)


def print_build(console: Console, result: BuildResult) -> None:
    """Print the funnel of the dataset, its size and its path."""
    if result.dataset is None:
        console.print(f"\n{'Done' if result.executed else 'Nothing to do'}: {len(result.steps)} steps, no dataset.")
        return
    dataset = result.dataset
    print_funnel(console, dataset)
    sizes = ", ".join(f"{dataset.samples(split):,} samples in {split}" for split in dataset.splits())
    if result.executed:
        console.print(f"\nBuilt {dataset.name!r} in {result.seconds:.0f} s: {sizes}.", soft_wrap=True)
    else:
        console.print(f"\nNothing to do: {result.where} is complete ({sizes}).", soft_wrap=True)
    console.print(f"Dataset: {result.where}", highlight=False, soft_wrap=True)
    if any(step.manifest.stage == "card" for step in result.steps):
        console.print(f"Card:    {result.where}/{CARD_HTML}", highlight=False, soft_wrap=True)


def print_funnel(console: Console, dataset: DatasetManifest) -> None:
    """Print the whole funnel of a dataset."""
    print_steps(console, dataset.funnel)


def print_examples(console: Console, manifest: StageManifest) -> None:
    """Print the number of queries per source, with the first and last ones."""
    table = Table(title="Queries", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("source")
    table.add_column("queries", justify="right")
    table.add_column("first … last")
    for source, examples in manifest.extra["examples"].items():
        table.add_row(source, f"{manifest.extra['by_source'][source]:,}", printable(", ".join(examples)))
    console.print()
    console.print(table)
    if "titles_ranked_by" in manifest.extra:
        console.print(f"Titles are ranked by {manifest.extra['titles_ranked_by']}.")


def print_extraction_stats(console: Console, counters: Mapping[str, int]) -> None:
    """Print the pairs found and kept by their source on the page. Prints nothing for tables."""
    lines = extraction_stats(counters)
    if not lines:
        return
    table = Table(title="Pairs by source", title_justify="left", show_edge=False, pad_edge=False)
    for header in ("source of", "source", "found", "share", "kept", "kept share"):
        table.add_column(header, justify="left" if header in ("source of", "source") else "right")
    total = sum(line.found for line in lines if line.kind == lines[0].kind)
    kind = ""
    for line in lines:
        share, kept = (f"{part / max(whole, 1):.1%}" for part, whole in ((line.found, total), (line.kept, line.found)))
        shown = line.kind if line.kind != kind else ""
        table.add_row(shown, line.source, f"{line.found:,}", share, f"{line.kept:,}", kept)
        kind = line.kind
    console.print()
    console.print(table)


def print_excluded(console: Console, manifest: StageManifest, folder: Path, *, dropped: bool = True) -> None:
    """Print how many images were dropped as duplicates of evaluation images. Print nothing without decontamination.

    Args:
        dropped: whether a dataset is made without them; else they were found only.
    """
    facts = manifest.extra.get("excluded")
    if facts is None:
        return
    known = next(step for step in manifest.funnel if step.unit == EVALUATION_UNIT)
    ways = ", ".join(f"{n:,} {variant}" for variant, n in facts["by_variant"].items())
    console.print(
        f"{'Dropped' if dropped else 'Found'} {facts['images']:,} images {'as' if dropped else 'that are'} copies of "
        f"{facts['evaluation_images']:,} of {known.rows_out:,} "
        f"evaluation images{f' ({ways})' if ways else ''}"
        + (f"; listed in {DedupPaths(folder).excluded}" if facts["images"] else ""),
        highlight=False,
        soft_wrap=True,
    )
    if known.reasons:
        unread = ", ".join(f"{reason} {n:,}" for reason, n in sorted(known.reasons.items()))
        console.print(f"Not read of the evaluation sets: {unread}.", highlight=False, soft_wrap=True)


def print_success(console: Console, manifest: StageManifest) -> None:
    """Print which share of the images was fetched, and the most frequent reasons why others were not."""
    step = next((step for step in manifest.funnel if step.unit == "images"), None)
    if step is None or not step.rows_in:
        return
    worst = sorted(step.reasons.items(), key=lambda item: (-item[1], item[0]))[:_REASONS_SHOWN]
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in worst)
    console.print(
        f"Success: {step.rows_out:,} of {step.rows_in:,} images ({step.rows_out / step.rows_in:.1%})"
        f"{'; ' if reasons else ''}{reasons}.",
        highlight=False,
        soft_wrap=True,
    )


def print_damage(console: Console, manifest: StageManifest, folder: Path) -> None:
    """Print what could not be read: counts, one example per kind, and the file that lists all."""
    counts: dict[str, int] = manifest.extra.get("damage", {})
    if not counts:
        return
    table = Table(title="Notes on the inputs", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("reason")
    table.add_column("places", justify="right")
    table.add_column("first", overflow="fold")
    for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        first = manifest.extra["damage_first"][reason]
        table.add_row(reason, f"{n:,}", Text(printable(f"{Path(first['archive']).name}: {first['detail']}")))
    console.print()
    console.print(table)
    console.print(f"All, with their files and offsets: {folder / DAMAGE_FILE}", highlight=False)


def print_steps(console: Console, steps: list[FunnelStep]) -> None:
    """Print funnel lines: rows in, rows out and dropped per reason at each stage."""
    table = Table(title="Funnel", title_justify="left", show_edge=False, pad_edge=False)
    for header, justify in (
        ("stage", "left"),
        ("unit", "left"),
        ("in", "right"),
        ("out", "right"),
        ("reason", "left"),
    ):
        table.add_column(header, justify=justify)  # type: ignore[arg-type]
    table.add_column("dropped", justify="right")
    for step in steps:
        _add_step(table, step)
    console.print()
    console.print(table)
    console.print("At every stage in = out + dropped (checked).")


def _add_step(table: Table, step: FunnelStep) -> None:
    reasons = sorted(step.reasons.items(), key=lambda item: (-item[1], item[0]))
    first, *others = reasons or [("", 0)]
    dropped = f"{first[1]:,}" if first[0] else ""
    table.add_row(step.stage, step.unit, f"{step.rows_in:,}", f"{step.rows_out:,}", first[0], dropped)
    for reason, n in others:
        table.add_row("", "", "", "", reason, f"{n:,}")

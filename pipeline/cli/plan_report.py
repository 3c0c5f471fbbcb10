"""Print the plan of a build: ranges, and what they rest on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from openwit.pipeline.cli.options import JobFlags, make_job, make_settings
from openwit.schemas.common.command import make_console
from openwit.schemas.common.wording import counted

if TYPE_CHECKING:
    from openwit.pipeline.plan.estimate import Range
    from openwit.pipeline.plan.planning import BuildPlan, StepPlan
    from openwit.pipeline.recipe import Recipe

_REASONS = 4


def run_plan(
    recipe: Recipe, workdir: Path, flags: JobFlags, assume: list[str] | None, price_per_core_hour: float | None
) -> None:
    """Make the plan of a recipe and print it; no work folder is written."""
    from openwit.pipeline.plan.planning import plan_build
    from openwit.pipeline.plan.settings import Assumptions

    assumptions = make_settings(
        Assumptions, "build --plan", {"price_per_core_hour": price_per_core_hour}, list(assume or [])
    )
    job = make_job(flags)
    console = make_console()
    with console.status("Reading a slice"):
        plan = plan_build(recipe, job, assumptions, workdir=workdir)
    print_plan(console, plan)


def print_plan(console: Console, plan: BuildPlan) -> None:
    """Print a plan."""

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False)

    whole = plan.read_bytes >= plan.input_bytes
    read = "all" if whole else f"{size_of(plan.read_bytes)} of"
    say(
        f"Plan of {plan.recipe}, from {read} {size_of(plan.input_bytes)} "
        f"({plan.read_files} of {counted(plan.input_files, 'file')}) in {plan.seconds:.0f} s. "
        "Nothing was built; ranges are where the truth probably lies."
    )
    console.print()
    width = max(len(step.name) for step in plan.steps)
    for step in plan.steps:
        _print_step(say, step, width)
    console.print()
    if plan.selection is not None:
        found = plan.selection
        say(
            f"Of the slice's pairs {found.queries_seen:,} queries match; about {count_of(found.over_cap)} would have "
            f"more than {found.cap:,} pairs each."
        )
    say(
        f"In all {hours_of(plan.core_hours)} core hours: {duration_of(plan.core_hours, plan.workers)} on "
        f"{counted(plan.workers, 'core')}, if the web keeps up; {bytes_of(plan.disk)} on disk; "
        f"{bytes_of(plan.download_bytes)} downloaded."
    )
    for what, cost in plan.prices.items():
        say(f"Cost of {what}: {range_of(cost, money)}.")
    for sentence in plan.unknown:
        say(f"Not known: {sentence}")


def _print_step(say: object, step: StepPlan, width: int) -> None:
    assert callable(say)
    rows = range_of(step.rows, count_of)
    about = count_of(step.rows.mid)
    parts = [f"{rows} {step.unit}" if " to " not in rows else f"about {about} {step.unit} ({rows})"]
    if step.disk.mid:
        parts.append(f"{bytes_of(step.disk)} on disk")
    if step.core_hours.mid:
        parts.append(f"{hours_of(step.core_hours)} core hours")
    say(f"  {step.name:<{width}}  {'; '.join(parts)}  ({step.basis})")
    dropped = [(reason, share) for reason, share in step.drops.items() if share >= 0.0005]
    if dropped:
        shown = ", ".join(f"{reason.replace('_', ' ')} {share:.1%}" for reason, share in dropped[:_REASONS])
        say(f"  {'':<{width}}  leave: {shown}{', …' if len(dropped) > _REASONS else ''}")


def range_of(value: Range, text: object) -> str:
    """Return a range as text: one number where it is known, else two, each as exact as it is known."""
    assert callable(text)
    low, high = text(value.low), text(value.high)
    return str(low) if low == high or value.low == value.high else f"{low} to {high}"


def count_of(value: float) -> str:
    """Return a number of rows with two significant digits above a hundred."""
    if value < 100:
        return f"{value:,.0f}"
    step = 10 ** (math.floor(math.log10(value)) - 1)
    return f"{round(value / step) * step:,}"


def money(value: float) -> str:
    """Return an amount."""
    return f"{value:,.2f}" if value < 100 else count_of(value)


def size_of(value: float) -> str:
    """Return bytes with two significant digits."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:,.1f} {unit}" if value < 10 * size else f"{value / size:,.0f} {unit}"
    return f"{value:,.0f} bytes"


def bytes_of(value: Range) -> str:
    """Return a range of bytes."""
    return range_of(value, size_of)


def hours_of(value: Range) -> str:
    """Return a range of hours."""
    if value.high < 0.01:
        return "under 0.01"

    def text(hours: float) -> str:
        if hours < 0.005:
            return "under 0.01"
        return f"{hours:,.2f}" if hours < 10 else count_of(hours)

    return range_of(value, text)


def duration_of(value: Range, workers: int) -> str:
    """Return how long core hours take on some cores."""

    high = value.high / workers
    for unit, size in (("days", 24.0), ("hours", 1.0), ("minutes", 1 / 60)):
        if high >= 2 * size or unit == "minutes":
            found = range_of(
                value * (1 / workers / size), lambda each: f"{each:,.0f}" if each >= 10 else f"{each:,.1f}"
            )
            return f"{found} {unit}"
    return ""

"""Define the command that fetches the public inputs of a build."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from openwit.pipeline.inputs.settings import MOST_FILES, MOST_HOURS, SOURCES, Wanted, wanted
from openwit.schemas.common.command import examples, make_console
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.parts import require_part
from openwit.schemas.common.settings import apply_override
from openwit.schemas.common.wording import counted

if TYPE_CHECKING:
    from openwit.pipeline.inputs.fetch import FetchPlan, FileState

_LISTED = 20
_FLAGS = ("crawl", "kind", "files", "language", "date", "parts", "day", "hours", "urls", "to", "base")


def add_commands(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        epilog=examples(
            "wit inputs commoncrawl/recipe.yaml                fetch what a recipe names",
            "wit inputs commoncrawl/recipe.yaml --dry-run      tell what, and how much",
            "wit inputs commoncrawl --crawl CC-MAIN-2024-22 --kind wat --files 4",
            "wit inputs wikipedia --language eo --yes",
            "wit inputs pageviews --day 2024-05-01 --hours 24",
            "wit inputs wordnet",
        )
    )(inputs)


def inputs(
    what: Annotated[
        str, typer.Argument(help=f"A recipe, or a source: {', '.join(SOURCES)}.", metavar="RECIPE.yaml|SOURCE")
    ],
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Take the settings of the source from this recipe.")
    ] = None,
    crawl: Annotated[str | None, typer.Option("--crawl", help="Crawl of Common Crawl: CC-MAIN-2024-22.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Files of a crawl: warc or wat.")] = None,
    files: Annotated[
        int | None, typer.Option("--files", min=1, max=MOST_FILES, help="Number of files of a crawl.")
    ] = None,
    language: Annotated[str | None, typer.Option("--language", help="Wikipedia: code of its language.")] = None,
    date: Annotated[str | None, typer.Option("--date", help="Wikipedia: YYYYMMDD of the dump, or latest.")] = None,
    parts: Annotated[
        int | None,
        typer.Option("--parts", min=1, max=MOST_FILES, help="Wikipedia: the first parts only, not all."),
    ] = None,
    day: Annotated[str | None, typer.Option("--day", help="Page views: first day, YYYY-MM-DD.")] = None,
    hours: Annotated[
        int | None, typer.Option("--hours", min=1, max=MOST_HOURS, help="Page views: number of hours.")
    ] = None,
    url: Annotated[list[str] | None, typer.Option("--url", help="Files: address of one. Repeatable.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Folder to write.")] = None,
    base: Annotated[str | None, typer.Option("--base", help="URL of a mirror.")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; SOURCE.KEY=VALUE for a recipe."),
    ] = None,
    connections: Annotated[
        int, typer.Option("--connections", min=1, max=8, help="Files fetched at a time; Wikimedia allows 2.")
    ] = 2,
    yes: Annotated[bool, typer.Option("--yes", help="Fetch without a question.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files and their sizes; fetch nothing.")] = False,
) -> None:
    """Fetch crawls, dumps, page views and WordNet for a build.

    What is there is not fetched again; run the same command after an interruption to go on. Nothing is fetched before
    its size is told.
    """
    require_part("build", "wit inputs")
    given = dict(
        zip(_FLAGS, (crawl, kind, files, language, date, parts, day, hours, url or None, to, base), strict=True)
    )
    found = _wanted(what, recipe, {key: value for key, value in given.items() if value is not None}, sets or [])
    from openwit.pipeline.cli.options import show_library_messages
    from openwit.pipeline.cli.progress import Steps
    from openwit.pipeline.inputs.client import Client
    from openwit.pipeline.inputs.fetch import check_space, fetch_files, plan_fetch

    console = make_console()
    show_library_messages(console)
    client = Client()
    with console.status("Asking for sizes"):
        plan = plan_fetch(client, found)
    _print_plan(console, plan, every=dry_run)
    if dry_run or not (plan.open or plan.finish):
        return
    check_space(plan)
    if plan.open and not yes:
        _ask(plan)
    started = time.monotonic()
    with Steps(console, "bytes") as steps:
        done = fetch_files(client, plan, connections, lambda here, of: steps.show("Fetch", here, of))
    for message in done:
        console.print(message)
    if plan.open:
        console.print(f"Fetched {counted(len(plan.open), 'file')} in {time.monotonic() - started:,.0f} s.")


def _wanted(what: str, recipe: Path | None, flags: dict[str, Any], sets: list[str]) -> list[Wanted]:
    """Return the sources that the command names, with their settings."""
    if what in SOURCES:
        return _of_source(what, recipe, flags, sets)
    path = Path(what)
    if path.suffix.lower() not in (".yaml", ".yml") and not path.exists():
        wanted(what, {}, "inputs")  # raises with near names
    if recipe is not None:
        raise RecipeError(f"name a recipe once: {what} or --recipe {recipe}")
    if flags:
        raise RecipeError(f"--{next(iter(flags))} belongs to one source: use --set SOURCE.KEY=VALUE with a recipe")
    from openwit.pipeline.recipe import load_recipe

    listed = list(load_recipe(path).inputs)
    if not listed:
        raise RecipeError(
            f"{path} names no inputs to fetch: add the key `inputs`, such as `inputs: [commoncrawl: {{files: 2}}]`, "
            f"or name a source: {', '.join(SOURCES)}"
        )
    return _overridden(listed, sets)


def _of_source(source: str, recipe: Path | None, flags: dict[str, Any], sets: list[str]) -> list[Wanted]:
    fields = SOURCES[source].model_fields
    for key in flags:
        if key not in fields:
            option = "url" if key == "urls" else key
            raise RecipeError(f"{source} takes no --{option} (it takes: {', '.join(fields)})")
    entries: list[dict[str, Any]] = [{}]
    if recipe is not None:
        from openwit.pipeline.recipe import load_recipe

        entries = [each.settings.model_dump() for each in load_recipe(recipe).inputs if each.source == source]
        if not entries:
            raise RecipeError(f"{recipe} names no {source} under its key `inputs`")
    for entry in entries:
        entry.update(flags)
        for override in sets:
            apply_override(entry, override)
    return [wanted(source, entry, "inputs") for entry in entries]


def _overridden(listed: list[Wanted], sets: list[str]) -> list[Wanted]:
    raw = [(each.source, each.settings.model_dump()) for each in listed]
    for override in sets:
        source, _, rest = override.partition(".")
        fits = [settings for name, settings in raw if name == source and "=" in rest]
        if not fits:
            names = ", ".join(dict.fromkeys(name for name, _ in raw))
            raise RecipeError(f"override {override!r} must look like SOURCE.key=value (the recipe's sources: {names})")
        for settings in fits:
            apply_override(settings, rest, within=source)
    return [wanted(source, settings, "inputs") for source, settings in raw]


def _print_plan(console: Console, plan: FetchPlan, *, every: bool) -> None:
    opened = plan.open
    for state in opened if every else opened[:_LISTED]:
        console.print(f"  {_size(state):>12}  {state.file.target}  from {state.file.url}", soft_wrap=True)
    if len(opened) > _LISTED and not every:
        console.print(f"  … and {counted(len(opened) - _LISTED, 'file')} more (--dry-run lists all)")
    there = len(plan.states) - len(opened)
    parts = [f"{counted(len(opened), 'file')} to fetch, {_total(plan)}" if opened else "Nothing to fetch"]
    if there:
        parts.append(f"{counted(there, 'file')} there already")
    console.print("; ".join(parts) + ".", soft_wrap=True)


def _total(plan: FetchPlan) -> str:
    unknown = sum(state.size is None for state in plan.open)
    about = "about " if any(state.is_estimated for state in plan.open) else ""
    held = sum(state.held for state in plan.open)
    text = f"{about}{_bytes(plan.missing)}"
    text += f" ({_bytes(held)} more arrived before)" if held else ""
    return text + (f" and {counted(unknown, 'file')} whose size is not told" if unknown else "")


def _size(state: FileState) -> str:
    return "?" if state.size is None else ("~" if state.is_estimated else "") + _bytes(state.size)


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return counted(count, "byte")


def _ask(plan: FetchPlan) -> None:
    """Ask before anything is fetched.

    Raises:
        RecipeError: nobody can answer.
    """
    if not sys.stdin.isatty():
        raise RecipeError(f"{_total(plan)} would be fetched: add --yes to fetch without a question")
    typer.confirm("Fetch?", abort=True)

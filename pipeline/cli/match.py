"""Define the command that matches tables of texts with a query list."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import typer

from openwit.pipeline.text.matching.settings import MatchMode
from openwit.schemas.common.command import examples, make_console
from openwit.schemas.common.parts import require_part
from openwit.schemas.common.wording import counted

_MOST_WORKERS = 1024


def add_commands(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        epilog=examples(
            "wit match captions.parquet --queries queries.txt --out matches.parquet",
            "wit match 'pool/*.parquet' --queries metadata.json --match metaclip --counts entry_counts.json \\",
            "    --out matches.parquet",
        )
    )(match)


def match(
    tables: Annotated[
        list[str], typer.Argument(help="Tables with a column of texts; globs, folders, URLs.", metavar="TABLE…")
    ],
    queries: Annotated[
        str,
        typer.Option(
            "--queries",
            help="Query list: a query per line, a table, MetaCLIP's metadata.json, or wit queries' folder.",
        ),
    ],
    out: Annotated[str, typer.Option("--out", help="File to write: table, row, key and query_ids of each row.")],
    mode: Annotated[
        MatchMode, typer.Option("--match", help="Whole words of any script, or as MetaCLIP matches.")
    ] = "words",
    form: Annotated[
        Literal["parquet", "jsonl"], typer.Option("--format", help="Format of the file that is written.")
    ] = "parquet",
    text: Annotated[
        list[str] | None, typer.Option("--text", help="Column of texts, where it has no usual name. Repeatable.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Column of the row's identifier, such as uid.")] = None,
    counts: Annotated[
        str | None, typer.Option("--counts", help="Write the texts per query, as MetaCLIP keeps them: .json or .npy.")
    ] = None,
    earlier_counts: Annotated[
        str | None, typer.Option("--earlier-counts", help="Such counts of other tables, to which these are added.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=_MOST_WORKERS, help="Threads [default: all cores].")
    ] = None,
) -> None:
    """Find the queries in each text of a table, without a build."""
    require_part("build", "wit match")
    from openwit.pipeline.api import match as match_texts
    from openwit.pipeline.cli.options import show_library_messages

    console = make_console()
    show_library_messages(console)
    columns: dict[str, Any] = {"text": text, "key": key}
    started = time.monotonic()
    done = match_texts(
        tables,
        queries,
        out,
        match=mode,
        columns={name: value for name, value in columns.items() if value},
        form=form,
        counts=counts,
        earlier_counts=earlier_counts,
        workers=workers,
    )
    for reason, n in sorted(done.lost.items()):
        lost = f"{n:,} rows" if n else "noted"
        console.print(f"{reason.replace('_', ' ')}: {lost}", highlight=False)
    console.print(
        f"Matched {done.matched:,} of {counted(done.rows, 'row')} ({counted(done.texts, 'text')}) with "
        f"{done.found:,} of {done.queries:,} queries, {done.matches:,} matches, in "
        f"{time.monotonic() - started:,.1f} s: {out}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )

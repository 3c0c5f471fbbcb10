"""Render the page of a card: facts and samples laid out by the template, which escapes all external text."""

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from openwit.pipeline.stages.card.dropped import dropped_groups
from openwit.pipeline.stages.card.duplicates import duplicate_groups
from openwit.pipeline.stages.card.figures import byte_size, percent, short_number
from openwit.pipeline.stages.card.hints import hints
from openwit.pipeline.stages.card.histograms import SERVED_EDGES, edge_labels
from openwit.pipeline.stages.card.plots import curve_svg
from openwit.pipeline.stages.card.rebuild import attribution, attribution_columns, citation, recipe_yaml
from openwit.pipeline.stages.card.risks import risks
from openwit.pipeline.stages.card.samples import ShownSample, pictures
from openwit.pipeline.stages.card.source import CardSource
from openwit.pipeline.stages.card.stop_words import is_stop
from openwit.pipeline.stages.card.texts import clip, web_address
from openwit.pipeline.stages.meanings import meanings, name_of
from openwit.schemas.common.printable import printable
from openwit.schemas.manifest import MANIFEST_NAME
from openwit.schemas.tables.samples import SAMPLES

_PARTS = ("Head", "Middle", "Tail")


def render(
    source: CardSource, facts: dict[str, Any], found: Sequence[ShownSample], queries: Sequence[tuple[int, int]]
) -> str:
    """Return the page.

    Args:
        facts: the result of `openwit.pipeline.stages.card.facts.gather`.
        found: samples to show.
        queries: (id, texts of the dataset that match it) of those to show samples of, most frequent first.
    """
    lines = _query_lines(source, queries)
    samples = pictures(source, found, {line["query_id"]: line["query"] for line in lines})
    duplicates, drops = source.duplicates(), source.drops()
    sums = source.identity()
    recipe, recipe_is_whole = recipe_yaml(source.manifest)
    known = meanings(step["stage"] for step in source.manifest.steps.values())
    page: str = (
        _environment(known)
        .get_template("card.html.j2")
        .render(
            facts=facts,
            sheets={
                split: [s for s in samples if s["split"] == split and s["query"] < 0]
                for split in source.manifest.splits()
            },
            query_sheets=_query_sheets(lines, samples),
            curve=_curve(facts),
            duplicates=[] if duplicates is None else duplicate_groups(duplicates, known),
            dropped=[] if drops is None else dropped_groups(drops, known),
            risks=risks(source.manifest, facts),
            hints=hints(facts, source.manifest),
            served=_heat(facts["images"]["served"]["width_by_height"]),
            attribution=attribution(samples[0]) if samples else [],
            attribution_columns=attribution_columns(),
            columns=_columns(source),
            recipe=recipe,
            recipe_is_whole=recipe_is_whole,
            manifest_sum=sums[MANIFEST_NAME],
            citation=citation(source.manifest, sums[MANIFEST_NAME]),
        )
    )
    return page.lstrip() + "\n"


def _columns(source: CardSource) -> list[dict[str, str]]:
    """Return the columns of the metadata, which may have some of the input beside ours, with their meanings."""
    comments = {column.name: column.comment for column in SAMPLES.columns}
    first = next(source.shards(), None)
    names = list(comments) if first is None else source.schema(first).names
    return [{"column": name, "comment": comments.get(name, "a column of the input")} for name in names]


def _environment(known: Mapping[str, str]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("openwit.pipeline.stages.card", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    environment.filters.update(
        number=lambda n: f"{n:,}",
        percent=percent,
        size=byte_size,
        words=name_of,
        meaning=lambda reason: known.get(reason, ""),
        clip=clip,
        web=web_address,
        stop=is_stop,
        ranked=lambda reasons: sorted(reasons.items(), key=lambda item: (-item[1], item[0])),
    )
    return environment


def _shown(value: object) -> object:
    """Escape control characters in whatever the template shows; markup of our own has none."""
    return printable(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _query_lines(source: CardSource, queries: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    table = source.queries() if queries else None
    if table is None:
        return []
    rows: list[dict[str, Any]] = table.take([query for query, _ in queries]).to_pylist()
    return [{**row, "held": held} for row, (_, held) in zip(rows, queries, strict=True)]


def _query_sheets(lines: Sequence[dict[str, Any]], samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the queries under Head, Middle and Tail, a third each, without those that have no sample."""
    sheets: list[dict[str, Any]] = []
    shown = [{**line, "samples": [s for s in samples if s["query"] == line["query_id"]]} for line in lines]
    shown = [line for line in shown if line["samples"]]
    for part, name in enumerate(_PARTS):
        of_part = [line for at, line in enumerate(shown) if at * len(_PARTS) // len(shown) == part]
        if of_part:
            sheets.append({"part": name, "queries": of_part})
    return sheets


def _curve(facts: dict[str, Any]) -> str | None:
    if not facts["queries"] or not facts["queries"]["with_pairs"]:
        return None
    title = (
        f"Pairs a query by rank, from {facts['queries']['curve']['before'][0][1]:,} at the most frequent of "
        f"{facts['queries']['with_pairs']:,} queries down to {facts['queries']['curve']['before'][-1][1]:,}, "
        "before the balance, drawn, and after"
    )
    return curve_svg(facts["queries"]["curve"], facts["cap"], title)


def _heat(counts: list[list[int]]) -> dict[str, Any]:
    """Return the rows of the table of sizes: heights down, widths across; empty rows and columns are omitted."""
    n = len(counts)
    labels = edge_labels(SERVED_EDGES)
    widths = [x for x in range(n) if any(counts[x])]
    heights = [y for y in range(n) if any(counts[x][y] for x in range(n))]
    most = max((max(column) for column in counts), default=0) or 1
    return {
        "widths": [labels[x] for x in widths],
        "rows": [
            {
                "height": labels[y],
                "cells": [
                    {"n": short_number(counts[x][y]), "shade": round((counts[x][y] / most) ** 0.5 * 0.55, 3)}
                    for x in widths
                ],
            }
            for y in heights
        ],
    }

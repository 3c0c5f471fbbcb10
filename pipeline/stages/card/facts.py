"""Collect the numbers of a card from only a dataset; the metadata is read once, shard by shard."""

from itertools import pairwise
from typing import Any

import numpy as np

from openwit.pipeline.stages.candidates.extraction_stats import extraction_stats
from openwit.pipeline.stages.card.authors import AUTHOR
from openwit.pipeline.stages.card.balance import query_facts
from openwit.pipeline.stages.card.downloads import download_classes
from openwit.pipeline.stages.card.duplicates import duplicate_facts
from openwit.pipeline.stages.card.source import CardSource
from openwit.pipeline.stages.card.tally import COLUMNS, CardStats
from openwit.schemas.manifest import DatasetManifest, FunnelStep

_QUERIES = 100
"""The most frequent queries that are listed."""


def gather(source: CardSource) -> tuple[dict[str, Any], np.ndarray, str]:
    """Return the facts of a dataset as plain JSON data, the number of texts that match each query, int64 (Q,), and
    the list of whom to attribute.
    """
    manifest, queries = source.manifest, source.queries()
    tally = CardStats(0 if queries is None else queries.num_rows)
    for shard in source.shards():
        further = [name for name in (AUTHOR,) if name in source.schema(shard).names]
        tally.add(source.metadata(shard, [*COLUMNS, *further]))
    lists = {} if queries is None else {**query_facts(queries, tally.matches, _QUERIES), **_list_facts(manifest)}
    facts = {
        "name": manifest.name,
        "description": manifest.description,
        "splits": _splits(manifest),
        "funnel": [step.model_dump() for step in manifest.funnel],
        "flow": flow(manifest.funnel),
        "yields": _pairs_by_source(manifest),
        "damage": manifest.notes.get(manifest.step_of("candidates"), {}).get("damage", {}),
        "queries": lists,
        "cap": _cap(manifest),
        "texts": tally.text_facts(),
        "images": tally.image_facts(),
        "hosts": tally.host_facts(),
        "downloads": _downloads(manifest.funnel),
        "duplicates": {**tally.duplicate_facts(), **duplicate_facts(manifest.funnel)},
        "licences": tally.licence_facts(),
        "risks": tally.risk_facts(),
        "recipe": manifest.recipe,
        "tools": manifest.tools,
        "notes": manifest.notes,
    }
    return facts, tally.matches, tally.authors.listing()


def flow(funnel: list[FunnelStep]) -> list[dict[str, Any]]:
    """Return the funnel lines that count pairs, from all found to those in the shards.

    Lines without drops are skipped, except the first. Returns [] if the rows out of one line are not the
    rows in of the next.
    """
    steps = [step for step in funnel if step.unit == "pairs"]
    joined = all(after.rows_in == before.rows_out for before, after in pairwise(steps))
    return [step.model_dump() for step in steps if step.reasons or step is steps[0]] if joined else []


def _splits(manifest: DatasetManifest) -> dict[str, dict[str, int]]:
    return {
        split: {
            "samples": manifest.samples(split),
            "pairs": sum(shard.pairs for shard in manifest.shards_of(split)),
            "shards": len(manifest.shards_of(split)),
            "bytes": sum(shard.tar.bytes for shard in manifest.shards_of(split)),
        }
        for split in manifest.splits()
    }


def _pairs_by_source(manifest: DatasetManifest) -> list[dict[str, Any]]:
    counters = manifest.notes.get(manifest.step_of("candidates"), {})
    return [
        {"kind": line.kind, "place": line.source, "found": line.found, "kept": line.kept}
        for line in extraction_stats(counters)
    ]


def _list_facts(manifest: DatasetManifest) -> dict[str, Any]:
    notes = manifest.notes.get(manifest.step_of("queries"), {})
    return {"by_source": notes.get("by_source", {}), "titles_ranked_by": notes.get("titles_ranked_by", "")}


def _cap(manifest: DatasetManifest) -> int | None:
    if manifest.recipe.get(manifest.step_of("select"), {}).get("balance") == "all":
        return None
    # The chosen cap, if the recipe sets a number of pairs or a share instead.
    cap = manifest.notes.get(manifest.step_of("select"), {}).get("cap") or manifest.recipe.get(
        manifest.step_of("select"), {}
    ).get("cap")
    return int(cap) if cap else None


def _downloads(funnel: list[FunnelStep]) -> dict[str, Any]:
    steps = [step for step in funnel if (step.stage, step.unit) == ("fetch", "images")]
    if not steps:
        return {}
    urls, kept = sum(step.rows_in for step in steps), sum(step.rows_out for step in steps)
    reasons: dict[str, int] = {}
    for step in steps:
        for reason, n in step.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + n
    return {"urls": urls, "kept": kept, "classes": download_classes(kept, reasons)}

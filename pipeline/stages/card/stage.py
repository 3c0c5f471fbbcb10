"""Card: what the dataset holds and how it came to be, as `card.html` (self-contained) and `card.json`."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.card.facts import gather
from openwit.pipeline.stages.card.page import render
from openwit.pipeline.stages.card.samples import first_samples, samples_of_queries, spread_ranks
from openwit.pipeline.stages.card.settings import CardSettings
from openwit.pipeline.stages.card.source import CardSource

HTML = "card.html"
JSON = "card.json"
VERSION = 2


def run(job: Job, settings: CardSettings, dataset: str | Path) -> bool:
    """Writes the card of a dataset unless it is there for these very files; returns whether it did.

    Args:
        dataset: its folder, or a URL that fsspec knows.

    Raises:
        OpenWITError: it is no dataset, or a file of it cannot be read.
    """
    source = CardSource(dataset)
    identity = {"version": VERSION, "files": source.identity(), "card": settings.model_dump(mode="json")}
    if _identity_of(source) == identity:
        return False
    with job.progress.status("Writing the card"):
        facts, held = gather(source)
        queries = _queries(source, settings, held)
        shown = first_samples(source, settings.examples) + samples_of_queries(source, queries, settings.query_examples)
        page = render(source, facts, shown, [(query, int(held[query])) for query in queries])
        source.write(HTML, page)
        # The JSON goes last: it says which files the page was made of.
        source.write(JSON, json.dumps({"made_of": identity, **facts}, indent=1, ensure_ascii=False) + "\n")
    return True


def _queries(source: CardSource, settings: CardSettings, held: np.ndarray) -> list[int]:
    """Ids of the queries whose samples the page shows, most frequent first."""
    table = source.queries() if settings.query_examples else None
    return [] if table is None else spread_ranks(table.column("pool").to_numpy(), held, settings.queries)


def _identity_of(source: CardSource) -> Any:
    """What the card that is there was made of; None where there is none, or not the whole of it."""
    try:
        found = json.loads(source.read(JSON) or b"null")
    except ValueError:
        return None
    return found.get("made_of") if isinstance(found, dict) and source.place.size(HTML) else None

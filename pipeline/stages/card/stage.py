"""Card: report what the dataset holds and how it was made, as `card.html` (self-contained) and `card.json`, and
describe it for those who load it: `README.md` for Hugging Face, and `croissant.json`.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from openwit.pipeline.dataset.card_sums import (
    ATTRIBUTION,
    CARD_SUMS,
    CROISSANT,
    README,
    card_problems,
    is_own,
    sums_text,
)
from openwit.pipeline.stages.card import HTML, JSON
from openwit.pipeline.stages.card.croissant import croissant_json
from openwit.pipeline.stages.card.facts import gather
from openwit.pipeline.stages.card.huggingface import readme
from openwit.pipeline.stages.card.page import render
from openwit.pipeline.stages.card.published import published
from openwit.pipeline.stages.card.samples import first_samples, samples_of_queries, spread_ranks
from openwit.pipeline.stages.card.settings import CardSettings
from openwit.pipeline.stages.card.source import CardSource
from openwit.schemas.manifest import MANIFEST_NAME

_log = logging.getLogger(__name__)
_VERSION = 4


def is_current(settings: CardSettings, dataset: str | Path) -> bool:
    """Return whether a dataset has a card of its very files and of these settings.

    Args:
        dataset: its folder, or a URL that fsspec knows.

    Raises:
        OpenWITError: it is no dataset, or a file of it cannot be read.
    """
    source = CardSource(dataset)
    return bool(_identity_of(source) == _identity(settings, source)) and not any(card_problems(source.place))


def write_card(settings: CardSettings, dataset: str | Path) -> None:
    """Write the card of a dataset.

    Args:
        dataset: its folder, or a URL that fsspec knows.

    Raises:
        OpenWITError: it is no dataset, or a file of it cannot be read.
    """
    source = CardSource(dataset)
    _log.info("writing the card of %s", dataset)
    facts, held, attribution = gather(source)
    queries = _queries(source, settings, held)
    shown = first_samples(source, settings.examples) + samples_of_queries(source, queries, settings.query_examples)
    page = render(source, facts, shown, [(query, int(held[query])) for query in queries])
    made_of = {"made_of": _identity(settings, source), **facts}
    numbers = json.dumps(made_of, indent=1, ensure_ascii=False) + "\n"
    about = published(source, facts)
    texts = {HTML: page, JSON: numbers, README: readme(about), CROISSANT: croissant_json(about)}
    texts |= {ATTRIBUTION: attribution} if attribution else {}
    for name in (README, CROISSANT, ATTRIBUTION):
        if is_own(name, source.read(name)):
            _log.warning("%s in %s was not written by wit card: it is kept as it is", name, dataset)
            texts.pop(name, None)
        elif name not in texts:
            source.place.delete(name)
    for name, text in texts.items():
        source.write(name, text)
    # Last: a card is complete when its checksums are right.
    files = {name: text.encode() for name, text in texts.items()}
    source.write(CARD_SUMS, sums_text({**files, MANIFEST_NAME: source.place.read(MANIFEST_NAME)}))


def _identity(settings: CardSettings, source: CardSource) -> dict[str, Any]:
    return {"version": _VERSION, "files": source.identity(), "card": settings.model_dump(mode="json")}


def _queries(source: CardSource, settings: CardSettings, held: np.ndarray) -> list[int]:
    """Return ids of the queries whose samples the page shows, most frequent first."""
    table = source.queries() if settings.query_examples else None
    return [] if table is None else spread_ranks(table.column("pool").to_numpy(), held, settings.queries)


def _identity_of(source: CardSource) -> Any:
    """Return the identity that the existing card was made of; None if there is no complete card."""
    try:
        found = json.loads(source.read(JSON) or b"null")
    except (ValueError, RecursionError):
        return None
    return found.get("made_of") if isinstance(found, dict) and source.place.size(HTML) else None

"""Count what the card shows while the metadata of a dataset is read once, one shard at a time."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.common.urls import host_of
from openwit.pipeline.stages.card.authors import Authors
from openwit.pipeline.stages.card.histograms import (
    CHARACTER_EDGES,
    SERVED_EDGES,
    SHAPE_LABELS,
    SIDE_EDGES,
    TEXT_EDGES,
    WORD_EDGES,
    Bars,
    add_counts,
    bars,
    edge_labels,
    histogram,
    holding_half,
    shapes,
    sizes,
    spread,
    top,
)
from openwit.pipeline.stages.card.risks import count_patterns, country_domains

COLUMNS = (
    "url", "texts", "text_sources", "languages", "page_urls", "archives", "licenses", "width", "height",
    "original_width", "original_height", "original_format", "duplicates", "query_ids",
)  # fmt: skip
NO_LICENCE = "(none stated)"
NOT_ASKED = "(not identified)"
_LANGUAGES = 100


class CardStats:
    """Count samples and texts. Grows with distinct hosts and licences and with the query list, not with samples.

    Args:
        queries: number of queries in the list; matches of others are not counted.
    """

    def __init__(self, queries: int) -> None:
        self.matches = np.zeros(queries, np.int64)
        self.samples = 0
        self.texts = 0
        self.names = {name: Counter[str]() for name in ("hosts", "languages", "sources", "formats", "licences")}
        self.characters, self.words = Counter[int](), Counter[int]()
        self.per_image, self.duplicates = Counter[int](), Counter[int]()
        self.short_sides = np.zeros(len(SIDE_EDGES), np.int64)
        self.shapes = np.zeros(len(SHAPE_LABELS), np.int64)
        self.served = np.zeros((len(SERVED_EDGES), len(SERVED_EDGES)), np.int64)
        self.with_page = 0
        self.authors = Authors()
        self.texts_with = Counter[str]()

    def add(self, table: pa.Table) -> None:
        """Count the rows of a table of SAMPLES with COLUMNS."""
        self.samples += table.num_rows
        self._add_texts(table)
        self._add_images(table)
        self.authors.add(table)
        self.names["hosts"].update(host_of(url) for url in table.column("url").to_pylist())

        ids = pc.list_flatten(pc.list_flatten(table.column("query_ids"))).to_numpy()
        self.matches += np.bincount(ids[ids < len(self.matches)], minlength=len(self.matches))

    def _add_texts(self, table: pa.Table) -> None:
        texts = pc.list_flatten(table.column("texts"))
        self.texts += len(texts)
        self.texts_with.update(count_patterns(texts))
        add_counts(self.characters, pc.utf8_length(texts).to_numpy())
        add_counts(
            self.words, pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(texts))).to_numpy()
        )
        add_counts(self.per_image, pc.list_value_length(table.column("texts")).to_numpy())
        for name, column, missing in (
            ("sources", "text_sources", ""),
            ("languages", "languages", NOT_ASKED),
            ("licences", "licenses", NO_LICENCE),
        ):
            for entry in pc.value_counts(pc.list_flatten(table.column(column))).to_pylist():
                self.names[name][entry["values"] or missing] += entry["counts"]
        self.with_page += pc.list_flatten(table.column("page_urls")).drop_null().length()

    def _add_images(self, table: pa.Table) -> None:
        add_counts(self.duplicates, table.column("duplicates").to_numpy())
        self.names["formats"].update(table.column("original_format").to_pylist())
        stored = [table.column(name).to_numpy() for name in ("width", "height")]
        self.short_sides += histogram(np.minimum(*stored), SIDE_EDGES)
        served = [table.column(name).to_numpy() for name in ("original_width", "original_height")]
        self.shapes += shapes(*served)
        self.served += sizes(*served)

    def text_facts(self) -> dict[str, Any]:
        """Return lengths, languages and sources of texts."""
        return {
            "n": self.texts,
            "characters": _lengths(self.characters, CHARACTER_EDGES),
            "words": _lengths(self.words, WORD_EDGES),
            "per_image": _lengths(self.per_image, TEXT_EDGES),
            "languages": top(self.names["languages"]),
            "language_codes": self._codes(),
            "language_unknown": self.names["languages"][NOT_ASKED],
            "sources": top(self.names["sources"]),
        }

    def _codes(self) -> Bars:
        """Return the identified languages, most frequent first; the rarest of very many are omitted."""
        known = {code: n for code, n in self.names["languages"].items() if code != NOT_ASKED}
        return top(known, len(known))[:_LANGUAGES]

    def risk_facts(self) -> dict[str, Any]:
        """Return what the texts and sites tell of risks."""
        return {"texts_with": dict(sorted(self.texts_with.items())), "domains": country_domains(self.names["hosts"])}

    def image_facts(self) -> dict[str, Any]:
        """Return sizes, shapes and formats of images."""
        return {
            "n": self.samples,
            "short_side": bars(edge_labels(SIDE_EDGES), self.short_sides),
            "shapes": bars(SHAPE_LABELS, self.shapes),
            "served": {"labels": edge_labels(SERVED_EDGES), "width_by_height": self.served.tolist()},
            "formats": top(self.names["formats"]),
        }

    def host_facts(self) -> dict[str, Any]:
        """Return the hosts of images."""
        hosts = {host: n for host, n in self.names["hosts"].items() if host}
        return {
            "n": len(hosts),
            "images": sum(hosts.values()),
            "without_address": self.names["hosts"][""],
            "holding_half": holding_half(hosts),
            "top": top(hosts),
        }

    def licence_facts(self) -> dict[str, Any]:
        """Return what pages and tables state of rights, in texts."""
        stated = self.names["licences"]
        return {
            "texts": self.texts,
            "none_stated": stated[NO_LICENCE],
            "with_page": self.with_page,
            "links": top(stated),
            **({"authors": authors} if (authors := self.authors.facts()) else {}),
        }

    def duplicate_facts(self) -> dict[str, int]:
        """Return the number of survivors with dropped duplicates, and the number of these duplicates."""
        copies = {n: images for n, images in self.duplicates.items() if n}
        return {
            "images_with_copies": sum(copies.values()),
            "copies": sum(n * images for n, images in copies.items()),
            "most": max(copies, default=0),
        }


def _lengths(counts: Counter[int], edges: tuple[int, ...]) -> dict[str, Any]:
    by_class = np.zeros(len(edges), np.int64)
    for value, n in counts.items():
        by_class[np.searchsorted(np.asarray(edges), value, side="right") - 1] += n
    listed: Bars = bars(edge_labels(edges), by_class)
    return {**spread(counts), "bars": listed}

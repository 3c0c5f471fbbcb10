"""Where an image of a dataset comes from, and why another is not in it: every stage's verdict on a URL or a key."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.web.urls import normalise_url
from schemas.errors import UserError
from schemas.manifest import DatasetManifest
from schemas.queries import QUERY_COUNTS

STAGES = ("candidates", "select", "fetch", "dedup", "redraw")
"""Stages that leave drops, in the order in which a pair meets them."""

_TEXT_COLUMNS = (
    "texts", "pair_ids", "text_sources", "languages", "page_urls", "archives", "record_offsets", "licenses",
    "query_ids", "drawn_by", "priorities",
)  # fmt: skip


@dataclass(frozen=True)
class KeptText:
    """A text of a sample, with where it stood and which queries brought it in.

    Attributes:
        matched: the queries that its text holds, with the pairs each matched in the pool and drew.
        drawn_by: those of them that drew it.
        priority: the least u(x, q) / threshold_q; at most 1.
    """

    text: str
    text_source: str
    language: str | None
    page_url: str | None
    archive: str
    record_offset: int
    license: str | None
    matched: list[dict[str, Any]]
    drawn_by: list[str]
    priority: float


@dataclass(frozen=True)
class KeptSample:
    """A sample of the dataset; `facts` are its columns in the shard's metadata that do not belong to one text."""

    key: str
    url: str
    split: str
    shard: str
    facts: dict[str, Any]
    texts: list[KeptText]


@dataclass(frozen=True)
class DroppedPair:
    """A pair that left: at which stage, why, and what was seen."""

    stage: str
    reason: str
    detail: str | None
    url: str
    text: str


def explain(dataset: Path, what: str) -> tuple[list[KeptSample], list[DroppedPair]]:
    """What a dataset, and the build beside it where there is one, know of a URL or a sample's key.

    Args:
        dataset: dataset folder; drops are looked for in `stages/` beside it.
        what: an image URL as it stood or normalised, or a key. For a key the drops of the sample's URL are given.

    Raises:
        UserError: the folder is no dataset.
    """
    manifest = DatasetManifest.load(dataset)
    kept = list(_kept(dataset, manifest, what))
    urls = sorted({what, normalise_url(what), *(sample.url for sample in kept)})
    return kept, list(_dropped(dataset.parent / "stages", urls))


def _kept(dataset: Path, manifest: DatasetManifest, what: str) -> Iterator[KeptSample]:
    queries = _queries(dataset)
    asked = pa.array(sorted({what, normalise_url(what)}))
    for shard in manifest.shards:
        path = dataset / shard.metadata.path
        found = pq.read_table(path, filters=pc.is_in(pc.field("url"), asked) | (pc.field("key") == what))
        for row in found.to_pylist():
            texts = [_text(values, queries) for values in zip(*(row[name] for name in _TEXT_COLUMNS), strict=True)]
            facts = {
                n: v for n, v in row.items() if n not in (*_TEXT_COLUMNS, "key", "url", "caption") and v is not None
            }
            yield KeptSample(row["key"], row["url"], shard.split, shard.tar.path, facts, texts)


def _text(values: Sequence[Any], queries: list[dict[str, Any]]) -> KeptText:
    row = dict(zip(_TEXT_COLUMNS, values, strict=True))
    return KeptText(
        text=row["texts"],
        text_source=row["text_sources"],
        language=row["languages"],
        page_url=row["page_urls"],
        archive=row["archives"],
        record_offset=row["record_offsets"],
        license=row["licenses"],
        matched=[queries[q] for q in row["query_ids"]] if queries else [],
        drawn_by=[queries[q]["query"] for q in row["drawn_by"]] if queries else [],
        priority=row["priorities"],
    )


def _queries(dataset: Path) -> list[dict[str, Any]]:
    path = dataset / "queries.parquet"
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = QUERY_COUNTS.read(path).select(["query", "source", "pool", "drawn"]).to_pylist()
    return rows


def _dropped(stages: Path, urls: list[str]) -> Iterator[DroppedPair]:
    asked = pa.array(urls)
    for stage in STAGES:
        for path in sorted((stages / stage / "drops").glob("*.parquet")):
            try:
                found = pq.read_table(path, filters=pc.is_in(pc.field("url"), asked))
            except (pa.ArrowException, OSError) as error:
                raise UserError(f"{path} cannot be read: {error}") from error
            for row in found.to_pylist():
                yield DroppedPair(stage, row["reason"], row["detail"], row["url"], row["text"])

"""Find where an image of a dataset came from or why it was dropped, by URL, key or pair ID."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openwit.pipeline.common.urls import normalise_url
from openwit.pipeline.dataset.places import stages_folder
from openwit.pipeline.dataset.store import DatasetStore, LocalFolder, load_manifest, open_store
from openwit.pipeline.explain.build_stages import SELECT, BuildStages, drop_rows, url_mask
from openwit.pipeline.stages import STAGES
from openwit.pipeline.stages.candidates.pair import pair_id
from openwit.pipeline.stages.dedup.reasons import DUPLICATE_BYTES, NEAR_DUPLICATE
from openwit.pipeline.stages.select.hash_uniform import pair_hashes, query_hashes, uniform
from openwit.pipeline.stages.select.reasons import NOT_DRAWN
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, ShardEntry
from openwit.schemas.table import without_payload
from openwit.schemas.tables.queries import QUERY_COUNTS

_TEXT_COLUMNS = (
    "texts", "pair_ids", "text_sources", "languages", "page_urls", "archives", "record_offsets", "licenses",
    "query_ids", "drawn_by", "priorities",
)  # fmt: skip
_KEY = re.compile(r"\d{10}")
_REMOVED = "was in this dataset, and was taken out with `wit remove`"
_PAIR_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Match:
    """A query that a text matches.

    Attributes:
        pool: pairs that match it.
        drawn: pairs that it drew.
        u: the pair's uniform number for it, in (0, 1].
        threshold: the largest u that it accepts; it drew the pair if u <= threshold.
    """

    query: str
    source: str
    pool: int
    drawn: int
    u: float
    threshold: float


@dataclass(frozen=True)
class KeptText:
    """A text of a sample, with its source and the queries that drew it.

    Attributes:
        pair_id: in hex.
        matched: the queries that its text matches, sorted by u / threshold.
        drawn_by: names of the queries that drew it.
        priority: the smallest u / threshold, at most 1.
        of_copy: for a text of a duplicate image, the duplicate's URL, or "" if the build's stages are missing; None
            for a text of the image itself.
    """

    text: str
    pair_id: str
    text_source: str
    language: str | None
    page_url: str | None
    archive: str
    record_offset: int
    license: str | None
    matched: list[Match]
    drawn_by: list[str]
    priority: float
    of_copy: str | None = None


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
    """A dropped pair: its stage, reason and detail.

    Attributes:
        pair_id: in hex; None if it never had one.
        matched: for a pair that was not drawn, the queries that its text matches, sorted by u / threshold.
        meaning: of the reason, in a few words; "" if it is not known.
    """

    stage: str
    reason: str
    detail: str | None
    url: str
    text: str
    pair_id: str | None = None
    matched: list[Match] = field(default_factory=list)
    meaning: str = ""


@dataclass(frozen=True)
class Lookup:
    """The subject of a lookup: a normalised URL, a key, and the IDs of pairs."""

    url: str
    key: str
    pair_ids: frozenset[bytes]


def explain(dataset: str | Path, what: str) -> tuple[list[KeptSample], list[DroppedPair]]:
    """Return what a dataset, and the build next to it, know of a URL, a sample's key or a pair: samples and drops.

    Args:
        dataset: dataset folder, or its URL. Drops are found only in `stages/` next to a folder.
        what: an image URL in any spelling, a key, or a pair ID in hex. For a key or a pair the drops of the sample's
            URL are returned too; for the URL of a duplicate also the sample that has its texts.

    Raises:
        RecipeError: `what` is empty.
        TypeError: `what` is no text.
        DataError: there is no dataset, or a file cannot be read.
    """
    if not isinstance(what, str):
        raise TypeError(f"name a URL, key or pair ID as text, got {type(what).__name__}: keys have ten digits")
    what = what.strip()
    if not what:
        raise RecipeError("name an image URL, the key of a sample or the id of a pair")
    place = open_store(dataset)
    folder = stages_folder(place.folder) if isinstance(place, LocalFolder) else None
    manifest = _manifest(place, folder)
    stages = BuildStages(folder, manifest)
    ids = {bytes.fromhex(what.lower())} if _PAIR_ID.fullmatch(what.lower()) else set()
    copies = stages.images_of(normalise_url(what), ids)
    ids |= {pair["pair_id"] for image in copies for pair in image["pairs"]}
    lookup = Lookup(normalise_url(what), what, frozenset(ids))
    kept = list(_kept(place, manifest, stages, lookup))
    urls = {lookup.url, *(normalise_url(sample.url) for sample in kept if sample.key == what)}
    dropped = list(_dropped(stages, manifest, urls, lookup))
    if not kept and not dropped and manifest.removals and (copies or _was_a_key(manifest, lookup.key)):
        url = copies[0]["url"] if copies else ""
        dropped = [DroppedPair("wit remove", "removed", _REMOVED, url, "", meaning=_REMOVED)]
    return kept, [*dropped, *_merged(copies, kept)]


def scheme_of(what: str) -> str:
    """Return the scheme of a URL in lower case, or an empty text for anything else."""
    scheme, colon, _ = what.strip().partition("://")
    return scheme.lower() if colon and scheme.isascii() and scheme.isalnum() else ""


def is_unfinished(dataset: str | Path) -> bool:
    """Return whether there is no dataset, but the stages of the build that is to write it."""
    place = open_store(dataset)
    if not isinstance(place, LocalFolder) or (place.folder / MANIFEST_NAME).exists():
        return False
    return stages_folder(place.folder).is_dir()


def _manifest(place: DatasetStore, stages: Path | None) -> DatasetManifest:
    """Load the manifest; of a build that is not finished, one that names its steps so far and no shards."""
    if stages is None or not stages.is_dir() or place.size(MANIFEST_NAME) is not None:
        return load_manifest(place)
    named = [path.name for path in sorted(stages.iterdir()) if path.is_dir()]
    order = {name: number for number, name in enumerate(STAGES)}
    steps = sorted(named, key=lambda name: order.get(name, len(order)))
    return DatasetManifest(name="", recipe={name: {} for name in steps}, tools={}, funnel=[], shards=[])


def _was_a_key(manifest: DatasetManifest, key: str) -> bool:
    """Return whether a key that no sample has now was that of a removed one: its shard held as many samples.

    Removals that did not record their shards count for every shard.
    """
    if _KEY.fullmatch(key) is None:
        return False
    for shard in manifest.shards:
        if shard.name == key[:5]:
            removed = sum(
                removal.shards.get(shard.tar.path, 0) if removal.shards else removal.samples
                for removal in manifest.removals
            )
            if int(key[5:]) < shard.samples + removed:
                return True
    return False


def _kept(place: DatasetStore, manifest: DatasetManifest, stages: BuildStages, lookup: Lookup) -> Iterator[KeptSample]:
    queries = _Queries(_dataset_queries(place), manifest)
    for shard in manifest.shards:
        for row in _sample_rows(place, shard, lookup):
            texts = [
                _text(dict(zip(_TEXT_COLUMNS, values, strict=True)), row["url"], queries, stages)
                for values in zip(*(row[name] for name in _TEXT_COLUMNS), strict=True)
            ]
            facts = {
                n: v for n, v in row.items() if n not in (*_TEXT_COLUMNS, "key", "url", "caption") and v is not None
            }
            yield KeptSample(row["key"], row["url"], shard.split, shard.tar.path, facts, texts)


def _sample_rows(place: DatasetStore, shard: ShardEntry, lookup: Lookup) -> list[dict[str, Any]]:
    """Return the matching rows of a shard's metadata; other columns are read only if there are any."""
    try:
        with place.open(shard.metadata.path) as file:
            table = pq.read_table(file, columns=["key", "url", "pair_ids"])
            mask = pc.or_(url_mask(table.column("url"), {lookup.url}), pc.equal(table.column("key"), lookup.key))
            rows = set(pc.indices_nonzero(mask).to_pylist())
            if lookup.pair_ids:
                ids = table.column("pair_ids").combine_chunks()
                named = pc.is_in(ids.flatten(), pa.array(sorted(id_.hex() for id_ in lookup.pair_ids)))
                rows |= set(ids.value_parent_indices().filter(named).to_pylist())
        if not rows:
            return []
        with place.open(shard.metadata.path) as file:
            facts = without_payload(pq.read_schema(file)).names
        with place.open(shard.metadata.path) as file:
            table = pq.read_table(file, columns=facts)
            found: list[dict[str, Any]] = table.take(pa.array(sorted(rows), pa.int64())).to_pylist()
            return found
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{place}/{shard.metadata.path} cannot be read: {error}") from error


def _text(row: dict[str, Any], url: str, queries: "_Queries", stages: BuildStages) -> KeptText:
    own = row["pair_ids"] == pair_id(url, row["texts"]).hex()
    return KeptText(
        text=row["texts"],
        pair_id=row["pair_ids"],
        text_source=row["text_sources"],
        language=row["languages"],
        page_url=row["page_urls"],
        archive=row["archives"],
        record_offset=row["record_offsets"],
        license=row["licenses"],
        matched=queries.matches(bytes.fromhex(row["pair_ids"]), row["query_ids"]),
        drawn_by=queries.names(row["drawn_by"]),
        priority=row["priorities"],
        of_copy=None if own else stages.url_of(bytes.fromhex(row["pair_ids"])) or "",
    )


class _Queries:
    """Look up queries in the list of a dataset or of a stage; without a table there are no matches."""

    def __init__(self, table: pa.Table | None, manifest: DatasetManifest) -> None:
        self._table = table
        self._seed = int(manifest.recipe.get(manifest.step_of("select"), {}).get("seed", 0))

    def matches(self, pair: bytes, ids: Sequence[int]) -> list[Match]:
        if self._table is None or not ids:
            return []
        rows = self._table.take(pa.array(ids)).to_pylist()
        hashes = query_hashes([row["query"] for row in rows])
        u = uniform(pair_hashes(pa.array([pair] * len(ids), pa.binary(16))), hashes, seed=self._seed).tolist()
        found = [
            Match(r["query"], r["source"], r["pool"], r["drawn"], n, r["threshold"])
            for r, n in zip(rows, u, strict=True)
        ]
        return sorted(found, key=lambda m: (m.u / m.threshold if m.threshold else float("inf"), m.query))

    def names(self, ids: Sequence[int]) -> list[str]:
        if self._table is None:
            return []
        names: list[str] = self._table.column("query").take(pa.array(ids, pa.int64())).to_pylist()
        return names


def _dataset_queries(place: DatasetStore) -> pa.Table | None:
    if place.size("queries.parquet") is None:
        return None
    with place.open("queries.parquet") as file:
        return QUERY_COUNTS.conform(pq.read_table(file), f"{place}/queries.parquet")


def _dropped(stages: BuildStages, manifest: DatasetManifest, urls: set[str], lookup: Lookup) -> Iterator[DroppedPair]:
    queries = _Queries(stages.queries(), manifest)
    for step in stages.steps:
        for path in step.paths.files(step.paths.drops):
            for row in drop_rows(path, urls, lookup.pair_ids):
                matched = []
                if step.stage is not None and step.stage.name == SELECT and row["reason"] == NOT_DRAWN:
                    matched = queries.matches(row["pair_id"], stages.matched_by(row["pair_id"]))
                yield DroppedPair(
                    step.name,
                    row["reason"],
                    row["detail"],
                    row["url"],
                    row["text"],
                    row["pair_id"].hex() if row["pair_id"] else None,
                    matched,
                    step.meaning_of(row["reason"]),
                )


def _merged(copies: Sequence[dict[str, Any]], kept: Sequence[KeptSample]) -> Iterator[DroppedPair]:
    """Yield the duplicates that deduplication dropped and whose texts are at the image that was kept."""
    for image in copies:
        mine = {pair["pair_id"].hex(): pair["text"] for pair in image["pairs"]}
        for sample in kept:
            taken = [text.pair_id for text in sample.texts if text.pair_id in mine]
            if not taken or normalise_url(sample.url) == normalise_url(image["url"]):
                continue
            bits = (image["phash"] ^ int(sample.facts["phash"], 16)).bit_count()
            same = image["sha256"] == sample.facts["sha256"]
            reason = DUPLICATE_BYTES if same else NEAR_DUPLICATE
            how = "the same bytes" if same else f"hashes differ in {bits} bit{'' if bits == 1 else 's'}"
            detail = f"duplicate of {sample.url} ({how}); its text was moved to that image, sample {sample.key}"
            for name in taken:
                yield DroppedPair("dedup", reason, detail, image["url"], mine[name], name, meaning=reason.meaning)

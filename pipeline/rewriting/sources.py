"""Open the finished datasets that a command reads: their shards, the columns and queries that they have together."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openwit.pipeline.common.column_types import FoundType, joined_types, type_named
from openwit.pipeline.dataset.removal_journal import JOURNAL
from openwit.pipeline.dataset.store import DatasetStore, load_manifest, open_store
from openwit.pipeline.dataset.target import BUILDING
from openwit.pipeline.readers.samples.datasets import places_in_shard, shard_name
from openwit.pipeline.stages.sidecars import QUERY_COUNTS_FILE
from openwit.schemas.common.errors import DataError, OpenWITError, RecipeError, one_line
from openwit.schemas.common.storage.remote import is_remote
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, ShardEntry
from openwit.schemas.table import TableSchema, without_payload
from openwit.schemas.tables.queries import QUERY_COUNTS
from openwit.schemas.tables.samples import OWN_NAMES, SAMPLES, SHARD_INDEX, image_endings, samples_with

_FILES = (".tar", ".parquet", ".csv", ".tsv", ".jsonl", ".txt", ".gz", ".zst")


def is_dataset(name: str) -> bool:
    """Return whether a path or URL is a finished dataset of ours.

    Raises:
        DataError: it is one whose manifest is damaged.
    """
    if is_remote(name) and ("?" in name or "*" in name or name.lower().endswith(_FILES)):
        return False
    if not is_remote(name) and not (Path(name) / MANIFEST_NAME).is_file():
        return False
    store = open_store(name)
    try:
        text = store.read(MANIFEST_NAME)
    except (FileNotFoundError, OpenWITError):
        return False
    try:
        DatasetManifest.parse(text, f"{name}/{MANIFEST_NAME}")
    except DataError:
        if b'"shards"' in text and b'"funnel"' in text:
            raise
        return False
    return True


@dataclass(frozen=True)
class SourceShard:
    """A shard of an input: number among all, the input, and its entry."""

    number: int
    dataset: int
    entry: ShardEntry


class Sources:
    """Finished datasets, in the order in which they were named.

    Args:
        names: folders or URLs.
        without: kept columns that are left out.

    Raises:
        DataError: one is no finished dataset, is being changed, or holds columns of other types than another.
    """

    def __init__(self, names: Sequence[str], without: Sequence[str] = ()) -> None:
        self.names = [name.rstrip("/") or name for name in names]
        self.without = tuple(without)
        self.stores: list[DatasetStore] = [open_store(name) for name in self.names]
        self.manifests = [load_manifest(store) for store in self.stores]

    def check(self) -> None:
        """Refuse datasets that are not whole, or of a layout that cannot be copied.

        Raises:
            DataError: there is one.
        """
        seen: dict[str, str] = {}
        for name, store, manifest in zip(self.names, self.stores, self.manifests, strict=True):
            for mark, what in ((JOURNAL, "a removal from it was cut off"), (BUILDING, "it is being built")):
                if store.size(mark) is not None:
                    raise DataError(f"{name}: {what}: complete it first")
            place = name if is_remote(name) else str(Path(name).resolve())
            if place in seen:
                raise RecipeError(f"{name} is named twice")
            seen[place] = name
            if "files" in manifest.formats() and is_remote(name):
                raise DataError(f"{name} has its images in files of their own: copy it to a local folder first")
        _ = self.schema

    @cached_property
    def shards(self) -> list[SourceShard]:
        """Every shard: input by input, train first."""
        listed = [
            (number, entry)
            for number, manifest in enumerate(self.manifests)
            for split in manifest.splits()
            for entry in manifest.shards_of(split)
        ]
        return [SourceShard(n, dataset, entry) for n, (dataset, entry) in enumerate(listed)]

    def identity(self) -> dict[str, str]:
        """Return the sha256 of each manifest, which has those of all files."""
        return {
            f"dataset {name}": hashlib.sha256(store.read(MANIFEST_NAME)).hexdigest()
            for name, store in zip(self.names, self.stores, strict=True)
        }

    @cached_property
    def types(self) -> dict[str, str]:
        """Kept columns of all inputs, by name and type.

        Raises:
            DataError: two have a column of types that do not go together.
        """
        own = {*OWN_NAMES, *SAMPLES.arrow.names, *self.without}
        every, known = [], set[str]()
        for dataset, name in enumerate(self.names):
            first = next((shard for shard in self.shards if shard.dataset == dataset), None)
            schema = pa.schema([]) if first is None else self._schema_of(first)
            known.update(schema.names)
            every.append((name, {field.name: FoundType(field.type) for field in schema if field.name not in own}))
        for column in self.without:
            if column not in known:
                raise RecipeError(f"--without {column}: no input has this column")
            if column in OWN_NAMES:
                raise RecipeError(f"--without {column}: every dataset has this column; only kept ones can be left out")
        return joined_types(every, setting="the dataset with --without")

    @cached_property
    def schema(self) -> TableSchema:
        """The table of samples with the columns of all inputs."""
        return samples_with((name, type_named(kind)) for name, kind in self.types.items())

    def _schema_of(self, shard: SourceShard) -> pa.Schema:
        try:
            with self.stores[shard.dataset].open(shard.entry.metadata.path) as file:
                return without_payload(pq.read_schema(file))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.place_of(shard)} cannot be read: {one_line(error)}") from error

    def place_of(self, shard: SourceShard) -> str:
        """Return the name of a shard's metadata, for messages."""
        return f"{self.names[shard.dataset]}/{shard.entry.metadata.path}"

    def name_of(self, shard: SourceShard) -> str:
        """Return the name of a shard's tar, table or folder, as candidates name it too."""
        return shard_name(self.names[shard.dataset], shard.entry)

    def places(self, shard: SourceShard, samples: pa.Table) -> list[int]:
        """Return where the images of a shard are, as candidates tell it, of all its samples.

        Raises:
            DataError: the index cannot be read, or an image is missing.
        """
        offsets = self.index(shard).column("image_offset").to_pylist()
        keys = samples.column("key").to_pylist()
        return places_in_shard(self.name_of(shard), keys, image_endings(samples), offsets)

    def samples(self, shard: SourceShard) -> pa.Table:
        """Return the metadata of a shard with the columns of all inputs.

        Raises:
            DataError: they cannot be read, or differ from what the manifest says.
        """
        try:
            with self.stores[shard.dataset].open(shard.entry.metadata.path) as file:
                table = pq.read_table(file, columns=self._schema_of(shard).names)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.place_of(shard)} cannot be read: {one_line(error)}") from error
        if table.num_rows != shard.entry.samples:
            raise DataError(
                f"{self.place_of(shard)} has {table.num_rows:,} rows, its manifest says otherwise: verify it"
            )
        return upgraded(table.combine_chunks(), self.schema, self.place_of(shard))

    def index(self, shard: SourceShard) -> pa.Table:
        """Return the byte ranges of a shard.

        Raises:
            DataError: they cannot be read.
        """
        where = f"{self.names[shard.dataset]}/{shard.entry.index.path}"
        try:
            with self.stores[shard.dataset].local(shard.entry.index.path) as path, pa.OSFile(str(path)) as source:
                return SHARD_INDEX.conform(pa.ipc.open_file(source).read_all(), where)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{where} cannot be read: {one_line(error)}") from error

    @cached_property
    def queries(self) -> "QueryLists":
        """The query lists of all inputs, joined."""
        return QueryLists([_query_counts(store) for store in self.stores])


def upgraded(table: pa.Table, schema: TableSchema, where: str) -> pa.Table:
    """Return samples of an earlier release, or with fewer kept columns, with all columns of a schema."""
    columns: dict[str, Any] = {}
    for column in schema.columns:
        if column.name in table.column_names:
            columns[column.name] = table.column(column.name)
        elif column.name == "uid":
            columns["uid"] = pc.list_element(table.column("pair_ids"), 0)
        elif column.nullable:
            columns[column.name] = pa.nulls(table.num_rows, column.type)
        elif column.name == "format":
            columns["format"] = pa.repeat("jpg", table.num_rows)
        else:
            raise DataError(f"{where} has no column {column.name!r}: it was not written by OpenWIT")
    return schema.table(columns)


def _query_counts(store: DatasetStore) -> pa.Table | None:
    if store.size(QUERY_COUNTS_FILE) is None:
        return None
    with store.open(QUERY_COUNTS_FILE) as file:
        return QUERY_COUNTS.conform(pq.read_table(file), f"{store}/{QUERY_COUNTS_FILE}")


class QueryLists:
    """Join query lists: each query once, in the order of the lists, with pools and draws added up.

    Args:
        tables: `QUERY_COUNTS` of each input; None for an input without.
    """

    def __init__(self, tables: Sequence[pa.Table | None]) -> None:
        places: dict[str, int] = {}
        rows: list[dict[str, Any]] = []
        self.maps: list[np.ndarray | None] = []
        for table in tables:
            if table is None:
                self.maps.append(None)
                continue
            new = np.zeros(table.num_rows, np.int32)
            for at, row in enumerate(table.to_pylist()):
                place = places.setdefault(row["query"], len(rows))
                new[at] = place
                if place == len(rows):
                    rows.append({**row, "query_id": place})
                    continue
                held = rows[place]
                held["pool"] += row["pool"]
                held["drawn"] += row["drawn"]
                held["threshold"] = max(held["threshold"], row["threshold"])
            self.maps.append(None if np.array_equal(new, np.arange(len(new))) else new)
        self.rows = rows

    def table(self, kept: np.ndarray) -> pa.Table | None:
        """Return the joined list; None if there is none.

        Args:
            kept: int64 (Q,), pairs of the new dataset that match each query.
        """
        if not self.rows:
            return None
        columns: dict[str, object] = {name: [row[name] for row in self.rows] for name in QUERY_COUNTS.arrow.names}
        return QUERY_COUNTS.table({**columns, "kept": kept})

    def renumbered(self, ids: pa.ChunkedArray, dataset: int) -> pa.Array:
        """Return the ids of one input's queries, lists of lists by sample and text, as ids of the joined list."""
        lists = ids.combine_chunks()
        new = self.maps[dataset]
        if new is None:
            return lists
        inner = lists.values
        flat = pa.array(new[inner.values.to_numpy()]) if len(inner.values) else inner.values
        return pa.ListArray.from_arrays(lists.offsets, pa.ListArray.from_arrays(inner.offsets, flat))


def manifests_notes(sources: Sources) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a new dataset keeps of each input's manifest: name, counts, recipe, and removals."""
    for name, manifest in zip(sources.names, sources.manifests, strict=True):
        yield (
            name.rpartition("/")[2],
            {
                "name": manifest.name,
                "samples": sum(shard.samples for shard in manifest.shards),
                "pairs": sum(shard.pairs for shard in manifest.shards),
                "recipe_sha256": hashlib.sha256(json.dumps(manifest.recipe, sort_keys=True).encode()).hexdigest(),
                "removed_samples": sum(removal.samples for removal in manifest.removals),
            },
        )

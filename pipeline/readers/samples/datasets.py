"""Read samples of finished datasets of ours, local or in a store: from their metadata and index; no image is read.

The columns that a dataset kept of its own inputs can be kept again, with their types, by text. Where each text was
found at first goes along as `origin_archive` and `origin_record_offset`, however many datasets lie between.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.common.column_types import FoundType, plain_type
from openwit.pipeline.common.column_values import UID
from openwit.pipeline.common.counting import Count
from openwit.pipeline.readers.samples.by_text import ByText
from openwit.pipeline.readers.samples.folders import listing_of, stored_place
from openwit.pipeline.readers.samples.sample import SIDECARS_UNUSED, Sample
from openwit.pipeline.readers.tables.kept_columns import NOTHING_KEPT, KeptColumns
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.tables import TableFacts
from openwit.schemas.common.errors import DataError, OpenWITError, one_line
from openwit.schemas.common.storage.remote import is_remote
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, ShardEntry
from openwit.schemas.table import without_payload
from openwit.schemas.tables.samples import BY_TEXT, OWN_NAMES, image_endings

_LISTS = ("texts", "text_sources", "languages", "page_urls", "licenses")
_COLUMNS = ("key", "url", *_LISTS)
_DEFINED = ("image", "url", "text", "split", "license", "key", "language")
"""Settings of columns that a dataset of ours defines; a user who names one wants the file read as any other."""
_LINEAGE = ("archives", "record_offsets", "pair_ids", UID, BY_TEXT.name)


def dataset_shards(name: str) -> list[str] | None:
    """Return the tars, tables or folders of a finished dataset by its folder or URL, in order of its manifest.

    Returns:
        None if it is none.

    Raises:
        DataError: it consists of folders and lies behind a URL.
    """
    if is_remote(name) and ("?" in name or "#" in name):
        return None
    folder = as_path(name.rstrip("/"))
    try:
        manifest = DatasetManifest.load(folder)
    except OpenWITError:
        return None
    base = name.rstrip("/")
    if "files" in manifest.formats() and is_remote(name):
        raise DataError(f"{name} has its images in files of their own, which are read from a local folder only")
    return [shard_name(base, shard) for shard in manifest.shards]


def shard_name(dataset: str, shard: ShardEntry) -> str:
    """Return the name of a shard among the inputs of candidates: its tar, its table, or its folder with a slash."""
    return f"{dataset}/{shard.tar.path}{'/' if shard.format == 'files' else ''}"


def has_manifest(name: str) -> bool:
    """Return whether a local folder may be a finished dataset."""
    return (as_path(name) / MANIFEST_NAME).is_file()


def has_sidecars(name: str) -> bool:
    """Return whether a tar, a folder or a table of a dataset has our metadata and index beside it."""
    if is_remote(name) and ("?" in name or "#" in name):
        return False
    path = as_path(name.rstrip("/"))
    return path.with_suffix(".idx.arrow").exists() and path.with_suffix(".parquet").exists()


def is_shard(name: str, columns: TableColumns) -> bool:
    """Return whether an input is read as a shard of a dataset of ours: a tar, a table or a folder with our sidecars.

    It is not where the user names a column that a dataset of ours defines, nor is a table without the images.
    """
    if any(getattr(columns, each) not in (None, ()) for each in _DEFINED) or not has_sidecars(name):
        return False
    return not name.endswith(".parquet") or _holds_images(name)


def _holds_images(name: str) -> bool:
    try:
        with as_path(name).open("rb") as file:
            schema = pq.read_schema(file)
    except (pa.ArrowException, OSError):
        return False
    return without_payload(schema) is not schema


def places_in_shard(name: str, keys: Sequence[str], endings: Sequence[str], offsets: Sequence[int]) -> list[int]:
    """Return where the images of a shard are, as `Sample.place` has it.

    Args:
        name: of the shard, as `shard_name` makes it.
        keys, endings: of its samples, N each; the endings of the images' files.
        offsets: of the images' bytes, N, from the index.

    Returns:
        N places: offsets in a tar, rows of a table, places in a folder.

    Raises:
        DataError: a folder lacks an image.
    """
    if name.endswith("/"):
        positions = {file: at for at, file in enumerate(listing_of(name).images)}
        files = [f"{key}.{ending}" for key, ending in zip(keys, endings, strict=True)]
        lost = next((file for file in files if file not in positions), None)
        if lost is not None:
            raise DataError(f"{name}{lost} is missing: verify the dataset and restore it")
        return [stored_place(positions[file], file) for file in files]
    return list(range(len(keys))) if name.endswith(".parquet") else list(offsets)


def shard_samples(
    name: str,
    count: Count,
    columns: TableColumns | None = None,
    kept: KeptColumns = NOTHING_KEPT,
    demanded: Iterable[str] = (),
) -> Iterator[Sample] | None:
    """Return the samples of a shard of ours.

    Args:
        name: of the shard, as `shard_name` makes it.
        count: receives a note if the files beside it are not ours, or damaged.
        columns: names given by the user, of which those that are kept count.
        kept: types of the columns that are kept.
        demanded: columns that are to be among the facts of each sample.

    Returns:
        None if they cannot be used.

    Raises:
        DataError: a folder lacks an image.
    """
    opened = _opened(name, count)
    if opened is None:
        return None
    table, offsets = opened
    facts = list(demanded)
    if any(field not in table.column_names for field in facts):
        return None  # the JSON beside the images may have it
    places = places_in_shard(name, table.column("key").to_pylist(), image_endings(table), offsets)
    names = _kept_names(table.schema, columns or TableColumns())
    return _samples(table, places, split_of(name), name, names, kept, facts)


def shard_facts(name: str, count: Count, columns: TableColumns) -> TableFacts | None:
    """Return the columns of a shard of ours, and the types of those that are kept; None if its sidecars are no use."""
    opened = _opened(name, count)
    if opened is None:
        return None
    schema = opened[0].schema
    kept = {at: FoundType(plain_type(schema.field(name).type)) for at, name in _kept_names(schema, columns).items()}
    return TableFacts(list(schema.names), kept, True)


def _opened(name: str, count: Count) -> tuple[pa.Table, list[int]] | None:
    path = as_path(name.rstrip("/"))
    try:
        index = _index(path.with_suffix(".idx.arrow").read_bytes())
        with path.with_suffix(".parquet").open("rb") as file:
            table = pq.read_table(file, columns=without_payload(pq.read_schema(file)).names)
        missing = [column for column in _COLUMNS if column not in table.column_names]
        if missing:
            raise DataError(f"its metadata have no column {missing[0]!r}")
        if index.column("key").to_pylist() != table.column("key").to_pylist():
            raise DataError("its metadata and its index name other samples")
    except (pa.ArrowException, OSError, DataError, KeyError) as error:
        count(SIDECARS_UNUSED, 0, f"{name} is read as other inputs are: {one_line(error)}")
        return None
    return table, index.column("image_offset").to_pylist()


def _index(data: bytes) -> pa.Table:
    with pa.ipc.open_file(pa.BufferReader(data)) as file:
        return file.read_all()


def split_of(name: str) -> str:
    """Return the split of a shard: its folder."""
    return name.rstrip("/").rpartition("/")[0].rpartition("/")[2]


def _kept_names(schema: pa.Schema, columns: TableColumns) -> dict[str, str]:
    """Return the name that each kept column gets, to its name in the metadata.

    `all` are the columns that the dataset kept of its inputs. A name that the metadata has itself is that of the
    input's column, if the dataset kept one.
    """
    if columns.keep == "all":
        return {name: name for name in schema.names if name not in OWN_NAMES}
    found = {}
    for name in columns.keep:
        given = f"{name.strip()}_input"
        if name == UID:
            found[UID] = UID
        elif name.strip() in OWN_NAMES:
            found[given] = given if given in schema.names else name.strip()
        else:
            found[name.strip()] = name if name in schema.names else name.strip()
    return {given: name for given, name in found.items() if name in schema.names}


def _samples(
    table: pa.Table,
    places: list[int],
    split: str,
    where: str,
    names: Mapping[str, str],
    kept: KeptColumns,
    facts: list[str],
) -> Iterator[Sample]:
    read = [*_COLUMNS, *(name for name in _LINEAGE if name in table.column_names)]
    rows: list[dict[str, Any]] = table.select(read).to_pylist()
    values = ByText(table, where, names, kept)
    told = table.select(facts).to_pylist()
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        yield Sample(
            place,
            row["key"],
            row["url"],
            row["texts"],
            split,
            text_sources=row["text_sources"],
            languages=row["languages"],
            page_urls=row["page_urls"],
            licenses=row["licenses"],
            facts=told[number] if facts else {},
            columns=values.of(number, row),
        )

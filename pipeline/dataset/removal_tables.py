"""Apply a removal to the tables of a dataset that do not belong to a shard."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from openwit.pipeline.dataset.removal_journal import Journal
from openwit.pipeline.dataset.removal_list import RemovalList
from openwit.pipeline.dataset.store import DatasetStore
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.manifest import FileEntry
from openwit.schemas.tables.candidates import DROP_EXAMPLES
from openwit.schemas.tables.images import DUPLICATE_EXAMPLES
from openwit.schemas.tables.queries import QUERY_COUNTS

_QUERIES = "queries.parquet"
_DUPLICATES = "duplicates.parquet"
_DROPS = "drops.parquet"


def rewrite_tables(
    store: DatasetStore, wanted: RemovalList, *, journal: Journal, entries: Sequence[FileEntry], scratch: Path
) -> list[FileEntry]:
    """Remove samples from the query counts and the examples; return the tables' new manifest entries.

    Args:
        scratch: folder for files that are not yet part of the dataset.
    """
    done = {}
    if store.size(_QUERIES) is not None:
        with store.local(_QUERIES) as path:
            changed = _fewer_kept(path, scratch, journal)
        if changed:
            store.move_in(changed, _QUERIES)
    if store.size(_DUPLICATES) is not None:
        with store.local(_DUPLICATES) as path:
            changed = _without_examples(path, scratch, wanted, journal)
        if changed:
            store.move_in(changed, _DUPLICATES)
    if store.size(_DROPS) is not None:
        with store.local(_DROPS) as path:
            changed = _without_drops(path, scratch, wanted, journal)
        if changed:
            store.move_in(changed, _DROPS)
    for entry in entries:
        with store.local(entry.path) as path:
            done[entry.path] = FileEntry(path=entry.path, bytes=path.stat().st_size, sha256=sha256_of(path))
    return list(done.values())


def _fewer_kept(path: Path, scratch: Path, journal: Journal) -> Path | None:
    """Write the query list with fewer kept pairs; return None if that was done before."""
    if not journal.queries or sha256_of(path) != journal.queries_sha256:
        return None
    table = QUERY_COUNTS.read(path)
    kept = table.column("kept").to_numpy().copy()
    position = {query: row for row, query in enumerate(table.column("query_id").to_pylist())}
    for query, n in journal.queries.items():
        if query in position:
            kept[position[query]] -= n
    column = table.column_names.index("kept")
    table = table.set_column(column, table.schema.field("kept"), pa.array(np.maximum(kept, 0)))
    QUERY_COUNTS.write(scratch / _QUERIES, table)
    return scratch / _QUERIES


def _without_examples(path: Path, scratch: Path, wanted: RemovalList, journal: Journal) -> Path | None:
    """Write the examples of duplicates without those that show a removed image; return None if there are none."""
    table = DUPLICATE_EXAMPLES.read(path)
    goes = _goes(wanted, journal)
    urls = zip(table.column("url").to_pylist(), table.column("kept_url").to_pylist(), strict=True)
    keep = [not goes(url) and not goes(kept) for url, kept in urls]
    if all(keep):
        return None
    DUPLICATE_EXAMPLES.write(scratch / _DUPLICATES, table.filter(pa.array(keep)))
    return scratch / _DUPLICATES


def _without_drops(path: Path, scratch: Path, wanted: RemovalList, journal: Journal) -> Path | None:
    """Write the examples of drops without those of a removed image; return None if there are none."""
    table = DROP_EXAMPLES.read(path)
    goes = _goes(wanted, journal)
    keep = [not goes(url) for url in table.column("url").to_pylist()]
    if all(keep):
        return None
    DROP_EXAMPLES.write(scratch / _DROPS, table.filter(pa.array(keep)))
    return scratch / _DROPS


def _goes(wanted: RemovalList, journal: Journal) -> Callable[[str | None], bool]:
    """Return a function that tells whether the image of a URL is removed."""
    gone = {sample.url for sample in journal.gone()}
    return lambda url: url is not None and (url in gone or bool(wanted.matches(url)))

"""Read a dataset for the card and write the card to it: the only module of the card that opens files."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.dataset.store import load_manifest, open_store
from openwit.schemas.common.errors import DataError
from openwit.schemas.manifest import MANIFEST_NAME, ShardEntry
from openwit.schemas.table import TableSchema, without_payload
from openwit.schemas.tables.candidates import DROP_EXAMPLES
from openwit.schemas.tables.images import DUPLICATE_EXAMPLES
from openwit.schemas.tables.queries import QUERY_COUNTS
from openwit.schemas.tables.samples import image_endings

QUERIES_FILE = "queries.parquet"
DUPLICATES_FILE = "duplicates.parquet"
DROPS_FILE = "drops.parquet"


class CardSource:
    """Read a dataset, the metadata of one shard at a time.

    Args:
        where: its folder, or a URL that fsspec knows.

    Raises:
        DataError: it is not a dataset.
    """

    def __init__(self, where: str | Path) -> None:
        self.place = open_store(where)
        self.manifest = load_manifest(self.place)
        listed = [entry for shard in self.manifest.shards for entry in (shard.metadata, shard.index)]
        self._unchecked = {entry.path: entry.sha256 for entry in [*self.manifest.tables, *listed]}

    def identity(self) -> dict[str, str]:
        """Return the sha256 of the files that the card is made of; the manifest holds those of all shards."""
        listed = {entry.path: entry.sha256 for entry in self.manifest.tables}
        sums = {MANIFEST_NAME: hashlib.sha256(self.place.read(MANIFEST_NAME)).hexdigest()}
        for name in (QUERIES_FILE, DUPLICATES_FILE, DROPS_FILE):
            if self.place.size(name) is not None:
                sums[name] = listed.get(name) or hashlib.sha256(self.place.read(name)).hexdigest()
        return sums

    def shards(self) -> Iterator[ShardEntry]:
        """Return the shards, train first, in order of name."""
        for split in self.manifest.splits():
            yield from self.manifest.shards_of(split)

    def metadata(self, shard: ShardEntry, columns: Sequence[str]) -> pa.Table:
        """Return columns of the table of `openwit.schemas.tables.samples.SAMPLES` of a shard.

        Raises:
            DataError: it is missing or not such a table.
        """
        with self._reading(shard.metadata.path) as file:
            return pq.read_table(file, columns=list(columns))

    def images(self, shard: ShardEntry, rows: Sequence[int]) -> list[bytes]:
        """Return the images of some rows of a shard, in the order of `rows`; nothing else of its images is read."""
        with self._reading(shard.index.path) as file, _opened(file) as source:
            index = pa.ipc.open_file(source).read_all().take(pa.array(rows, pa.int64()))
        offsets, sizes = (index.column(name).to_pylist() for name in ("image_offset", "image_size"))
        if shard.format == "files":
            has_format = "format" in self.schema(shard).names
            table = self.metadata(shard, ["key", *(["format"] if has_format else [])]).take(pa.array(rows, pa.int64()))
            keys = index.column("key").to_pylist()
            names = [f"{shard.tar.path}/{key}.{last}" for key, last in zip(keys, image_endings(table), strict=True)]
            return [self.place.ranges(name, [0], [size])[0] for name, size in zip(names, sizes, strict=True)]
        return self.place.ranges(shard.tar.path, offsets, sizes)

    def schema(self, shard: ShardEntry) -> pa.Schema:
        """Return the schema of a shard's metadata."""
        with self._reading(shard.metadata.path) as file:
            return without_payload(pq.read_schema(file))

    def first_place(self, shard: ShardEntry) -> dict[str, Any] | None:
        """Return the index row of a shard's first sample, None if it has no index of a tar."""
        if shard.format != "webdataset" or not shard.samples:
            return None
        with self._reading(shard.index.path) as file, _opened(file) as source:
            rows: list[dict[str, Any]] = pa.ipc.open_file(source).read_all().slice(0, 1).to_pylist()
        return rows[0] if rows else None

    def queries(self) -> pa.Table | None:
        """Return the table of `openwit.schemas.tables.queries.QUERY_COUNTS`, or None if the dataset has no list."""
        return self._table(QUERIES_FILE, QUERY_COUNTS)

    def duplicates(self) -> pa.Table | None:
        """Return the table of `openwit.schemas.tables.images.DUPLICATE_EXAMPLES`, or None if the dataset has none."""
        return self._table(DUPLICATES_FILE, DUPLICATE_EXAMPLES)

    def drops(self) -> pa.Table | None:
        """Return the table of `openwit.schemas.tables.candidates.DROP_EXAMPLES`, or None if the dataset has none."""
        return self._table(DROPS_FILE, DROP_EXAMPLES)

    def read(self, name: str) -> bytes | None:
        """Return a small file of the dataset, None if it does not exist."""
        return self.place.read(name) if self.place.size(name) is not None else None

    def write(self, name: str, text: str) -> None:
        """Write a small file, whole or not at all."""
        self.place.write(name, text.encode())

    def _table(self, name: str, schema: TableSchema) -> pa.Table | None:
        if self.place.size(name) is None:
            return None
        with self._reading(name) as file:
            return schema.conform(pq.read_table(file), f"{self.place}/{name}")

    @contextmanager
    def _reading(self, name: str) -> Iterator[Any]:
        try:
            with self.place.open(name) as file:
                self._check(name, file)
                yield file
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self.place}/{name} cannot be read: {error} (verify the dataset to list all problems)"
            ) from error

    def _check(self, name: str, file: Any) -> None:
        """Compare a file with the manifest, at the first time it is read."""
        expected = self._unchecked.pop(name, None)
        if expected is None:
            return
        with _opened(file) as source:
            found = hashlib.file_digest(source, "sha256").hexdigest()
            source.seek(0)
        if found != expected:
            raise OSError("its bytes have changed since it was written")


@contextmanager
def _opened(file: Any) -> Iterator[Any]:
    """Return a file object for the result of `DatasetStore.open`: a path, or a file object already."""
    if isinstance(file, str):
        with Path(file).open("rb") as opened:
            yield opened
    else:
        yield file

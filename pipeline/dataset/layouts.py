"""Lay samples out as img2dataset does: a tar, a folder with a file per member, or a Parquet table with their bytes.

Each layout takes the samples of a shard block by block, and tells at the end where the members of each sample lie: in
the tar, in the Parquet file, or at the start of their own files.
"""

import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.dataset.sample import sample_documents
from openwit.pipeline.dataset.tar_writer import TarWriter
from openwit.schemas.common.atomic import atomic_path, sha256_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage.reading import remove_tree
from openwit.schemas.manifest import ShardFormat
from openwit.schemas.table import payload_field, without_payload
from openwit.schemas.tables.samples import SAMPLES, image_endings

EXTENSIONS = {"image": "jpg", "text": "txt", "json": "json"}
"""Extensions of a sample's members in the tar, in their order; in a Parquet table the names of their columns.

In a tar or folder an image has the extension of its format."""

Images = Sequence[bytes | memoryview]
_PAGE_BYTES = (1 << 31) - 1
_MEMBER_ROWS = 256
_LENGTH = 4  # bytes of the length that Parquet's plain encoding puts before each value


class Laid(NamedTuple):
    """A shard's samples as stored: sha256, and offsets and sizes of their members, int64 (N, 3) each."""

    sha256: str
    offsets: np.ndarray
    sizes: np.ndarray


class Layout(Protocol):
    """Stores the samples of one shard."""

    def add(self, rows: pa.Table, images: Images) -> None:
        """Add samples.

        Args:
            rows: of openwit.schemas.tables.samples.SAMPLES, N.
            images: N files.
        """
        ...

    def finish(self) -> Laid:
        """End the shard."""
        ...


def payload_path(base: Path, form: ShardFormat) -> Path:
    """Return the file or folder with the samples of the shard BASE."""
    return base if form == "files" else base.with_suffix(".tar" if form == "webdataset" else ".parquet")


@contextmanager
def laid_out(base: Path, form: ShardFormat) -> Iterator[Layout]:
    """Yield the layout in which the samples of the shard BASE are stored, whole or not at all.

    A folder is not hidden until it is whole: what a kill left in it is removed by the next run.
    """
    path = payload_path(base, form)
    if form == "files":
        remove_tree(path)
        path.mkdir(parents=True)
        yield _Folder(path)
        return
    with atomic_path(path) as temporary:
        if form == "parquet":
            with closing(_Table(temporary)) as table:
                yield table
            return
        with temporary.open("wb", buffering=0) as file:
            yield _Tar(TarWriter(file, digest := hashlib.sha256()), digest)


def member_names(keys: Sequence[str], endings: Sequence[str]) -> list[str]:
    """Return the names of the members of N samples, 3 N.

    Args:
        keys: of the samples, N.
        endings: of their images, N.
    """
    _, *others = EXTENSIONS.values()
    return [f"{key}.{last}" for key, ending in zip(keys, endings, strict=True) for last in (ending, *others)]


def sample_members(rows: pa.Table, images: Images) -> tuple[list[str], list[bytes | memoryview]]:
    """Return the names and the bytes of the members of N samples, 3 N each, those of a sample together."""
    texts = [caption.encode() for caption in rows.column("caption").to_pylist()]
    names = member_names(rows.column("key").to_pylist(), image_endings(rows))
    return names, [part for sample in zip(images, texts, sample_documents(rows), strict=True) for part in sample]


class _Places:
    """Offsets and sizes of members, collected by block."""

    def __init__(self) -> None:
        self._offsets: list[np.ndarray] = []
        self.sizes: list[np.ndarray] = []

    def add(self, offsets: np.ndarray, sizes: np.ndarray) -> None:
        self._offsets.append(offsets.reshape(-1, len(EXTENSIONS)))
        self.sizes.append(sizes.reshape(-1, len(EXTENSIONS)))

    def laid(self, sha256: str) -> Laid:
        return Laid(sha256, _joined(self._offsets), _joined(self.sizes))


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros((0, len(EXTENSIONS)), np.int64)


class _Tar:
    def __init__(self, writer: TarWriter, digest: Any) -> None:
        self._writer, self._digest, self._places = writer, digest, _Places()

    def add(self, rows: pa.Table, images: Images) -> None:
        self._places.add(*self._writer.add(*sample_members(rows, images)))

    def finish(self) -> Laid:
        self._writer.close()
        return self._places.laid(self._digest.hexdigest())


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder, self._places = folder, _Places()
        self._sums: dict[str, str] = {}

    def add(self, rows: pa.Table, images: Images) -> None:
        names, bodies = sample_members(rows, images)
        for name, body in zip(names, bodies, strict=True):
            with open(self._folder / name, "wb") as file:
                file.write(body)
            self._sums[name] = hashlib.sha256(body).hexdigest()
        sizes = np.fromiter(map(len, bodies), np.int64, len(bodies))
        self._places.add(np.zeros(len(bodies), np.int64), sizes)

    def finish(self) -> Laid:
        return self._places.laid(folder_sum(self._sums))


def folder_sum(sums: Mapping[str, str]) -> str:
    """Return the checksum of a folder from the sha256 of its files by name: that of the lines of sha256sum."""
    return hashlib.sha256("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()).hexdigest()


def sums_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of some files of a folder by name."""
    return {name: sha256_of(folder / name) for name in names}


def held_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder; -1 if there is neither."""
    try:
        return sum(entry.stat().st_size for entry in os.scandir(path)) if path.is_dir() else path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1


class _Table:
    """A Parquet table of samples with the columns of their members.

    These are stored plain and without compression, in one page per block: so each value's bytes lie in the file as
    they do in a tar, and the index finds them.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._places = path, _Places()
        self._writer: pq.ParquetWriter | None = None

    def add(self, rows: pa.Table, images: Images) -> None:
        schema = SAMPLES.like(rows.schema)
        if self._writer is None:
            self._writer = _open_table(self._path, schema.arrow)
        _, bodies = sample_members(rows, images)
        sizes = np.fromiter(map(len, bodies), np.int64, len(bodies))
        self._places.add(np.zeros(len(bodies), np.int64), sizes)
        rows = schema.conform(rows)
        members = (
            pa.array(bodies[::3], pa.binary()),
            rows.column("caption"),
            pa.array(bodies[2::3], pa.binary()).cast(pa.string()),
        )
        table = pa.table([*rows.columns, *members], schema=self._writer.schema)
        self._writer.write_table(table.combine_chunks(), row_group_size=max(1, rows.num_rows))

    def close(self) -> None:
        """End the file, if it was begun."""
        if self._writer is not None:
            self._writer.close()

    def finish(self) -> Laid:
        if self._writer is None:
            self._writer = _open_table(self._path, SAMPLES.arrow)
        self._writer.close()
        laid = self._places.laid(sha256_of(self._path))
        offsets = list(_value_offsets(self._path, self._places.sizes))
        return laid._replace(offsets=_joined(offsets))


def check_names(columns: Iterable[str]) -> None:
    """Refuse columns of the inputs that have the name of a column of the format parquet.

    Raises:
        DataError: one has.
    """
    taken = sorted({*columns} & {*EXTENSIONS.values()})
    if taken:
        raise DataError(
            f"the column {taken[0]!r} that is kept of the inputs has the name of a column of the format parquet: "
            "leave it out of columns.keep, or choose another shard.format"
        )


def _open_table(path: Path, facts: pa.Schema) -> pq.ParquetWriter:
    kinds = (pa.binary(), pa.string(), pa.string())
    members = [payload_field(name, kind) for name, kind in zip(EXTENSIONS.values(), kinds, strict=True)]
    leaves = _leaves(facts)
    return pq.ParquetWriter(
        path,
        pa.schema([*facts, *members], metadata=facts.metadata),
        compression={**dict.fromkeys(leaves, "zstd"), **dict.fromkeys(EXTENSIONS.values(), "none")},
        use_dictionary=leaves,
        write_statistics=leaves,
        data_page_size=_PAGE_BYTES,
    )


def _leaves(schema: pa.Schema) -> list[str]:
    """Return the names that Parquet gives the columns of a schema, which are those of the values in lists."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    found = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    return [found.column(number).path for number in range(len(found))]


def _value_offsets(path: Path, sizes: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield where the values of the members' columns lie in a file, a row group at a time: int64 (N, 3)."""
    metadata = pq.read_metadata(path)
    places = {metadata.schema.column(n).path: n for n in range(metadata.num_columns)}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, lengths in enumerate(part for part in sizes if len(part)):
            offsets = np.zeros_like(lengths)
            for member, name in enumerate(EXTENSIONS.values()):
                column = metadata.row_group(number).column(places[name])
                spans = lengths[:, member] + _LENGTH
                start = column.data_page_offset + column.total_compressed_size - int(spans.sum())
                offsets[:, member] = start + np.cumsum(spans) - spans + _LENGTH
                for at, size in zip(offsets[:, member].tolist(), lengths[:, member].tolist(), strict=True):
                    if int.from_bytes(data[at - _LENGTH : at], "little") != size:
                        raise DataError(
                            f"pyarrow {pa.__version__} lays out Parquet in a way that has no index: use 25"
                        )
            yield offsets


def table_images(path: Path) -> Iterator[tuple[pa.Table, list[bytes]]]:
    """Yield the samples of a shard of the format parquet, a row group at a time: rows of SAMPLES, and their images."""
    with pq.ParquetFile(path) as file:
        facts = without_payload(file.schema_arrow)
        schema = SAMPLES.like(facts)
        for number in range(file.num_row_groups):
            table = file.read_row_group(number)
            yield schema.conform(table.select(facts.names), str(path)), table.column(EXTENSIONS["image"]).to_pylist()


def table_members(path: Path) -> Iterator[tuple[bytes, ...]]:
    """Yield the members of each sample of a shard of the format parquet, in the order of EXTENSIONS."""
    names = list(EXTENSIONS.values())
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=names, batch_size=_MEMBER_ROWS):
            columns = [batch.column(name).cast(pa.binary()).to_pylist() for name in names]
            yield from zip(*columns, strict=True)

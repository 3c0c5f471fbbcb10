"""Declare Arrow schemas as contracts: a version, a comment per column, and checks that name the offending column."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import SchemaError, one_line
from openwit.schemas.common.storage.cache import cached

_TABLE_KEY = b"openwit.table"
_VERSION_KEY = b"openwit.version"
_NOTE_PREFIX = "openwit.note."
_COMMENT_KEY = b"comment"
_PAYLOAD_KEY = b"openwit.payload"


def payload_field(name: str, kind: pa.DataType) -> pa.Field:
    """Return a field of a table's file that is no part of the table: what else the file carries in its rows.

    `TableSchema` passes it over when it reads.
    """
    return pa.field(name, kind, nullable=False, metadata={_PAYLOAD_KEY: b"1"})


def without_payload(found: pa.Schema) -> pa.Schema:
    """Return the schema of a file without the fields of `payload_field`."""
    fields = [field for field in found if _PAYLOAD_KEY not in (field.metadata or {})]
    return found if len(fields) == len(found) else pa.schema(fields, metadata=found.metadata)


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, whether nulls are allowed, and its meaning (with units).

    Attributes:
        since: version of the table in which the column came.
    """

    name: str
    type: pa.DataType
    comment: str
    nullable: bool = False
    since: int = 1


@dataclass(frozen=True)
class TableSchema:
    """The contract of one table. `version` increases when a column changes its meaning, name or type."""

    name: str
    version: int
    comment: str
    columns: tuple[Column, ...]

    @cached_property
    def arrow(self) -> pa.Schema:
        """Return the Arrow schema; comments and version are in its metadata and so in every Parquet file."""
        fields = [
            pa.field(c.name, c.type, nullable=c.nullable, metadata={_COMMENT_KEY: c.comment}) for c in self.columns
        ]
        return pa.schema(fields, metadata={_TABLE_KEY: self.name, _VERSION_KEY: str(self.version)})

    def as_of(self, version: int) -> "TableSchema":
        """Return the table as an earlier version had it, if it had only fewer columns."""
        return replace(self, version=version, columns=tuple(c for c in self.columns if c.since <= version))

    def extended(self, columns: Iterable[Column]) -> "TableSchema":
        """Return the table with further columns, which differ from file to file."""
        return replace(self, columns=(*self.columns, *columns))

    def like(self, found: pa.Schema) -> "TableSchema":
        """Return the table as the schema of a file says that it was written: its version, and its further columns."""
        written = (found.metadata or {}).get(_VERSION_KEY, b"").decode()
        schema = self.as_of(min(int(written), self.version)) if written.isdecimal() else self
        known = {column.name for column in self.columns}
        further = (field for field in without_payload(found) if field.name not in known)
        comment = _COMMENT_KEY
        return schema.extended(
            Column(field.name, field.type, (field.metadata or {}).get(comment, b"").decode(), field.nullable)
            for field in further
        )

    def empty(self) -> pa.Table:
        """Return a table of this schema without rows."""
        return self.arrow.empty_table()

    def table(self, columns: dict[str, object]) -> pa.Table:
        """Build a conforming table from column values (arrays or lists), cast to the declared types.

        Raises:
            SchemaError: a column is missing, unknown, of another type, or null although nulls are not allowed.
        """
        self._check_names(set(columns))
        arrays = []
        for column in self.columns:
            values = columns[column.name]
            try:
                if isinstance(values, pa.Array | pa.ChunkedArray):
                    arrays.append(values if values.type == column.type else values.cast(column.type))
                else:
                    arrays.append(pa.array(values, type=column.type))
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
                raise SchemaError(
                    f"table {self.name!r}: column {column.name!r} does not fit {column.type}: {error}"
                ) from error
        return self.conform(pa.table(arrays, schema=self.arrow))

    def conform(self, table: pa.Table, where: str = "") -> pa.Table:
        """Return the table in this schema's column order, or raise.

        Args:
            table: a table that was read or is to be written.
            where: its file, for the message.

        Raises:
            SchemaError: naming the first column that is missing, unknown, of another type, or wrongly null.
        """
        suffix = f" in {where}" if where else ""
        self._check_names(set(table.column_names), suffix)
        table = table.select([c.name for c in self.columns])
        for column in self.columns:
            found = table.schema.field(column.name).type
            if found != column.type:
                raise SchemaError(
                    f"table {self.name!r}{suffix}: column {column.name!r} is {found}, expected {column.type}"
                )
            if not column.nullable and table.column(column.name).null_count:
                raise SchemaError(f"table {self.name!r}{suffix}: column {column.name!r} holds nulls but may not")
        return pa.table(table.columns, schema=self.arrow)

    def read(self, path: Path) -> pa.Table:
        """Read a whole Parquet file of this table.

        Raises:
            SchemaError: the file is not readable as Parquet or does not conform.
        """
        file = _open_parquet(path)
        self._check_footer(file.schema_arrow, path)
        with _readable(path):
            table = file.read(columns=_columns(file))
        return self.conform(table, str(path))

    def found_in(self, path: Path) -> "TableSchema":
        """Return the table as a Parquet file holds it: see `like`.

        Raises:
            SchemaError: the file is not readable as Parquet.
        """
        return self.like(_open_parquet(path).schema_arrow)

    def notes(self, path: Path) -> dict[str, str] | None:
        """Return the notes with which a file of this table was written; None if OpenWIT did not write it."""
        metadata = _open_parquet(path).schema_arrow.metadata or {}
        if metadata.get(_TABLE_KEY, b"").decode() != self.name:
            return None
        return {
            key.decode().removeprefix(_NOTE_PREFIX): value.decode()
            for key, value in metadata.items()
            if key.decode().startswith(_NOTE_PREFIX)
        }

    def read_batches(self, path: Path) -> Iterator[pa.Table]:
        """Read a Parquet file row group by row group, so that memory does not grow with the file."""
        file = _open_parquet(path)
        self._check_footer(file.schema_arrow, path)
        for group in range(file.num_row_groups):
            with _readable(path):
                table = file.read_row_group(group, columns=_columns(file))
            yield self.conform(table, str(path))

    def write(
        self,
        path: Path,
        tables: pa.Table | Iterable[pa.Table],
        row_group_size: int = 65_536,
        *,
        notes: Mapping[str, str] | None = None,
    ) -> int:
        """Write tables to one Parquet file, whole or not at all; return the number of rows.

        Each table becomes separate row groups, so the caller decides which rows are read together. `notes` go into the
        file's metadata, where `notes` finds them.
        """
        parts = [tables] if isinstance(tables, pa.Table) else tables
        rows = 0
        with self.writing(path, row_group_size, notes=notes) as write:
            for part in parts:
                write(part)
                rows += part.num_rows
        return rows

    def write_parts(
        self, path_of: Callable[[int], Path], tables: Iterable[pa.Table], part_rows: int, row_group_size: int = 65_536
    ) -> list[Path]:
        """Write tables to as many files as needed, each whole or not at all: at least one file, possibly empty.

        Args:
            path_of: returns the path of the part with a number.
            tables: small tables; their rows are collected into row groups of `row_group_size`, in their order.
            part_rows: a part ends with the row group in which it reaches this number of rows.
        """
        groups = _regrouped(tables, row_group_size)
        paths: list[Path] = []
        group = next(groups, None)
        while group is not None or not paths:
            path = path_of(len(paths))
            rows = 0
            with self.writing(path, row_group_size) as write:
                while group is not None and rows < part_rows:
                    write(group)
                    rows += group.num_rows
                    group = next(groups, None)
            paths.append(path)
        return paths

    @contextmanager
    def writing(
        self, path: Path, row_group_size: int = 65_536, *, notes: Mapping[str, str] | None = None
    ) -> Iterator[Callable[[pa.Table], None]]:
        """Yield a function that appends tables to a Parquet file, which is written whole or not at all."""
        noted = {f"{_NOTE_PREFIX}{key}": value for key, value in (notes or {}).items()}
        schema = self.arrow.with_metadata({**(self.arrow.metadata or {}), **noted})
        with (
            atomic_path(path) as temporary,
            pq.ParquetWriter(temporary, schema, compression="zstd", compression_level=3) as writer,
        ):

            def write(table: pa.Table) -> None:
                writer.write_table(self.conform(table, path.name), row_group_size=row_group_size)

            yield write

    def _check_names(self, names: set[str], suffix: str = "") -> None:
        for column in self.columns:
            if column.name not in names:
                raise SchemaError(f"table {self.name!r}{suffix}: column {column.name!r} is missing")
        unknown = sorted(names - {c.name for c in self.columns})
        if unknown:
            raise SchemaError(f"table {self.name!r}{suffix}: column {unknown[0]!r} is not part of the schema")

    def _check_footer(self, schema: pa.Schema, path: Path) -> None:
        metadata = schema.metadata or {}
        found = metadata.get(_TABLE_KEY, b"").decode()
        version = metadata.get(_VERSION_KEY, b"").decode()
        if found and found != self.name:
            raise SchemaError(f"{path} holds table {found!r}, expected {self.name!r}")
        if found and version != str(self.version):
            raise SchemaError(
                f"{path} holds table {found!r} in version {version}, this release reads version {self.version}: "
                "rebuild that stage"
            )
        self.conform(without_payload(schema).empty_table(), str(path))


def _regrouped(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield the same rows in tables of exactly `rows` rows; the last one has the rest."""
    waiting: list[pa.Table] = []
    have = 0
    for table in tables:
        waiting.append(table)
        have += table.num_rows
        while have >= rows:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, rows).combine_chunks()
            waiting, have = [whole.slice(rows)], have - rows
    if have:
        yield pa.concat_tables(waiting).combine_chunks()


def _columns(file: pq.ParquetFile) -> list[str] | None:
    """Return the columns of a file without its payload; None for all."""
    facts = without_payload(file.schema_arrow)
    return None if len(facts) == len(file.schema_arrow) else facts.names


def _open_parquet(path: Path) -> pq.ParquetFile:
    with _readable(path):
        return pq.ParquetFile(cached(path))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise SchemaError(f"{path} does not exist") from None
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"{path} is not a readable Parquet file: {one_line(error)}") from error

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import openwit.schemas.tables.candidates
import openwit.schemas.tables.images
import openwit.schemas.tables.queries
import openwit.schemas.tables.samples
from openwit.schemas.common.errors import SchemaError
from openwit.schemas.table import Column, TableSchema
from openwit.schemas.tables.queries import QUERIES

BIRDS = TableSchema(
    "birds",
    2,
    "Birds seen.",
    (
        Column("name", pa.string(), "common name"),
        Column("grams", pa.int32(), "weight", nullable=True),
    ),
)
ALL_TABLES = [
    value
    for module in (
        openwit.schemas.tables.candidates,
        openwit.schemas.tables.images,
        openwit.schemas.tables.queries,
        openwit.schemas.tables.samples,
    )
    for value in vars(module).values()
    if isinstance(value, TableSchema)
]


def test_round_trip_keeps_rows_and_says_version_and_comments(tmp_path):
    path = tmp_path / "birds.parquet"
    table = BIRDS.table({"name": ["wren", "crane"], "grams": [9, None]})
    assert BIRDS.write(path, table) == 2
    assert BIRDS.read(path).equals(table)
    stored = pq.read_schema(path)
    assert stored.metadata[b"openwit.version"] == b"2"
    assert stored.field("grams").metadata[b"comment"] == b"weight"


@pytest.mark.parametrize(
    ("columns", "culprit"),
    [
        ({"name": ["wren"]}, "'grams' is missing"),
        ({"name": ["wren"], "grams": [9], "song": ["trill"]}, "'song' is not part"),
        ({"name": ["wren"], "grams": ["heavy"]}, "'grams' does not fit int32"),
        ({"name": [None], "grams": [9]}, "'name' holds nulls"),
    ],
)
def test_a_table_that_does_not_conform_names_the_column(columns, culprit):
    with pytest.raises(SchemaError, match=culprit):
        BIRDS.table(columns)


def test_reading_another_type_names_column_and_file(tmp_path):
    path = tmp_path / "birds.parquet"
    pq.write_table(pa.table({"name": ["wren"], "grams": pa.array([9], pa.int64())}), path)
    with pytest.raises(SchemaError, match="birds.parquet: column 'grams' is int64, expected int32"):
        BIRDS.read(path)


def test_reading_another_version_says_what_to_do(tmp_path):
    path = tmp_path / "birds.parquet"
    old = TableSchema("birds", 1, "", BIRDS.columns)
    old.write(path, old.table({"name": ["wren"], "grams": [9]}))
    with pytest.raises(SchemaError, match="version 1, this release reads version 2: rebuild"):
        BIRDS.read(path)


def test_a_table_that_is_no_parquet_or_missing_is_said(tmp_path):
    path = tmp_path / "birds.parquet"
    with pytest.raises(SchemaError, match="does not exist"):
        BIRDS.read(path)
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(SchemaError, match="not a readable Parquet file"):
        BIRDS.read(path)


def test_a_failed_write_leaves_nothing(tmp_path):
    def tables():
        yield BIRDS.table({"name": ["wren"], "grams": [9]})
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        BIRDS.write(tmp_path / "birds.parquet", tables())
    assert list(tmp_path.iterdir()) == []


def test_the_same_rows_give_the_same_bytes(tmp_path):
    table = BIRDS.table({"name": ["wren", "crane"], "grams": [9, None]})
    for name in ("a", "b"):
        BIRDS.write(tmp_path / name, table)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("schema", ALL_TABLES, ids=lambda schema: schema.name)
def test_every_column_of_every_table_has_a_comment(schema):
    assert schema.version >= 1
    assert all(len(column.comment) > 3 for column in schema.columns)
    assert schema.conform(schema.empty()).num_rows == 0


@pytest.mark.parametrize("sizes", [[], [3], [4, 4], [1, 2, 9, 1], [0, 5, 0]])
def test_parts_hold_all_rows_in_order(tmp_path, sizes):
    schema = TableSchema("t", 1, "", (Column("n", pa.int64(), ""),))
    numbers = iter(range(sum(sizes)))
    tables = [schema.table({"n": [next(numbers) for _ in range(size)]}) for size in sizes]
    paths = schema.write_parts(lambda k: tmp_path / f"{k}.parquet", iter(tables), part_rows=6, row_group_size=4)
    read = [schema.read(path).column("n").to_pylist() for path in paths]
    assert [n for part in read for n in part] == list(range(sum(sizes)))
    assert all(len(part) == 8 for part in read[:-1])
    assert len(paths) >= 1


def test_notes_travel_in_the_file_and_change_nothing_else(tmp_path):
    table = QUERIES.empty()
    QUERIES.write(tmp_path / "a.parquet", table, notes={"match": "metaclip"})
    QUERIES.write(tmp_path / "b.parquet", table)
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "c.parquet")
    assert [QUERIES.notes(tmp_path / f"{name}.parquet") for name in "abc"] == [{"match": "metaclip"}, {}, None]
    assert all(QUERIES.read(tmp_path / f"{name}.parquet") == table for name in "abc")

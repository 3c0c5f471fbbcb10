"""Define the metadata tables of a finished dataset. Column names follow img2dataset's."""

from collections.abc import Iterable

import pyarrow as pa

from openwit.schemas.table import Column, TableSchema

SAMPLES = TableSchema(
    "samples",
    3,
    "One row per sample of the shard of the same name, in the tar's order. Columns that the recipe keeps of its "
    "inputs follow, with their types.",
    (
        Column("key", pa.string(), "name of the sample's members in the tar, without extension"),
        Column("url", pa.string(), "image URL"),
        Column("caption", pa.string(), "the first text, as in the .txt member"),
        Column("texts", pa.list_(pa.string()), "all texts of the image, with the first"),
        Column("pair_ids", pa.list_(pa.string()), "hex pair ids, one per text"),
        Column("query_ids", pa.list_(pa.list_(pa.int32())), "queries each text matched"),
        Column("drawn_by", pa.list_(pa.list_(pa.int32())), "queries that drew each text"),
        Column("priorities", pa.list_(pa.float64()), "priority of each text (see selected)"),
        Column("text_sources", pa.list_(pa.string()), "where each text was found"),
        Column("languages", pa.list_(pa.string()), "language of each text, null if not identified"),
        Column("page_urls", pa.list_(pa.string()), "page of each text, null for tables"),
        Column("archives", pa.list_(pa.string()), "input file of each text"),
        Column("record_offsets", pa.list_(pa.int64()), "byte offset or row in that file"),
        Column("licenses", pa.list_(pa.string()), "licence link of each text's page, if stated"),
        Column("status", pa.string(), "success (img2dataset's column; failures are in the build's drops)"),
        Column("error_message", pa.string(), "always null, kept for tools that expect it", nullable=True),
        Column("width", pa.int32(), "pixels"),
        Column("height", pa.int32(), "pixels"),
        Column("original_width", pa.int32(), "pixels as served"),
        Column("original_height", pa.int32(), "pixels as served"),
        Column("original_format", pa.string(), "format as served"),
        Column("sha256", pa.string(), "hex sha256 of the body as served"),
        Column("phash", pa.string(), "hex 64-bit perceptual hash"),
        Column("duplicates", pa.int32(), "dropped duplicates of this image"),
        Column(
            "uid",
            pa.string(),
            "identifier of the sample, the same in every build: the pair id of its caption, or the input's own",
            since=2,
        ),
        Column("format", pa.string(), "format of the image in the shard, and ending of its name: jpg, png …", since=3),
        Column(
            "exif",
            pa.string(),
            "EXIF data of the image as served, a JSON object of texts; null if not asked for, or if it has none",
            nullable=True,
            since=3,
        ),
    ),
)

BY_TEXT = Column(
    "columns_by_text",
    pa.list_(pa.string()),
    "the kept columns of each text's row as JSON, where they are not the same for all; else null",
    nullable=True,
)
ORIGIN_COLUMNS = (
    Column("origin_archive", pa.string(), "where the text was found before the dataset that was read", nullable=True),
    Column("origin_record_offset", pa.int64(), "byte offset or row in that file", nullable=True),
)
"""Columns of a dataset that was made of finished datasets, by the first text."""
OWN_NAMES = frozenset({*(column.name for column in (*SAMPLES.columns, BY_TEXT, *ORIGIN_COLUMNS))})
"""Names that a column of the input cannot have: it is kept as NAME_input."""


def samples_with(columns: Iterable[tuple[str, pa.DataType]]) -> TableSchema:
    """Return the table of samples with columns that were kept of the inputs, by name and type."""
    kept = [
        Column(name, kind, "column of the input, of the first text's row", nullable=True) for name, kind in columns
    ]
    return SAMPLES.extended([*kept, BY_TEXT]) if kept else SAMPLES


def image_endings(samples: pa.Table) -> list[str]:
    """Return the ending of each sample's image in the shard; that of datasets of earlier releases is jpg."""
    if "format" not in samples.column_names:
        return ["jpg"] * samples.num_rows
    endings: list[str] = samples.column("format").to_pylist()
    return endings


SHARD_INDEX = TableSchema(
    "shard_index",
    1,
    "Byte ranges of each sample's members in the tar: random access by mmap. An Arrow IPC file, in tar order.",
    (
        Column("key", pa.string(), "sample key"),
        Column("image_offset", pa.int64(), "first byte of the image's data"),
        Column("image_size", pa.int64(), "bytes"),
        Column("text_offset", pa.int64(), "first byte of the .txt member's data"),
        Column("text_size", pa.int64(), "bytes"),
        Column("json_offset", pa.int64(), "first byte of the .json member's data"),
        Column("json_size", pa.int64(), "bytes"),
    ),
)

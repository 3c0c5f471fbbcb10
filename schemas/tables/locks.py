"""Define the tables of a lockfile, with which a dataset is fetched again, and of what became of its samples."""

import pyarrow as pa

from openwit.schemas.table import Column, TableSchema
from openwit.schemas.tables.candidates import PAIR_ID

_IDS = pa.list_(pa.int32())

LOCK = TableSchema(
    "lock",
    1,
    "One row per sample of a dataset, without its picture, in the order of the first pair id. The file's note `lock` "
    "is a JSON object: name, recipe, versions, cap, seed and counts.",
    (
        Column("uid", pa.string(), "the sample's uid: hex id of its first pair, unless the user's data had its own"),
        Column("url", pa.string(), "image URL, or table:NAME#ROW where the bytes lay in an input"),
        Column("has_bytes", pa.bool_(), "the bytes lay in the input `archives[0]`, not on the web"),
        Column("split", pa.string(), "train, val or test"),
        Column("sha256", pa.string(), "hex sha256 of the body as served"),
        Column("pixels_hash", pa.string(), "hex xxh3-128 of size and resized RGB pixels, where known", True),
        Column("phash", pa.uint64(), "64-bit perceptual hash"),
        Column("fingerprint", pa.binary(44), "descriptor (see images), where known", True),
        Column("width", pa.int32(), "pixels, as stored"),
        Column("height", pa.int32(), "pixels, as stored"),
        Column("original_width", pa.int32(), "pixels as served"),
        Column("original_height", pa.int32(), "pixels as served"),
        Column("original_format", pa.string(), "format as served"),
        Column("texts", pa.list_(pa.string()), "all texts of the image"),
        Column("pair_ids", pa.list_(PAIR_ID), "pair id of each text; of another URL for a duplicate's text"),
        Column("query_ids", pa.list_(_IDS), "queries each text matched: rows of the lock's table of queries"),
        Column("drawn_by", pa.list_(_IDS), "queries that drew each text"),
        Column("priorities", pa.list_(pa.float64()), "smallest u / threshold of each text"),
        Column("text_sources", pa.list_(pa.string()), "where each text was found"),
        Column("languages", pa.list_(pa.string()), "language of each text, null if not identified"),
        Column("page_urls", pa.list_(pa.string()), "page of each text; null unless the lock was made with pages"),
        Column("archives", pa.list_(pa.string()), "input file of each text"),
        Column("record_offsets", pa.list_(pa.int64()), "byte offset or row in that file"),
        Column("licenses", pa.list_(pa.string()), "licence link of each text, null if none is stated"),
    ),
)

STATUSES = ("same", "reencoded", "changed", "gone", "opted_out")

REHYDRATED = TableSchema(
    "rehydrated",
    1,
    "One row per sample of a lockfile, in its order: what became of it when it was fetched again.",
    (
        Column("uid", pa.string(), "as in the lock"),
        Column("status", pa.string(), "same (bytes) | reencoded (same picture) | changed | gone | opted_out"),
        Column("detail", pa.string(), "status of the download, or what differs", nullable=True),
    ),
)

CHECKED = TableSchema(
    "checked",
    1,
    "What became of images of a lockfile, one row per row of a file of images or of drops, in its order.",
    (
        Column("row", pa.int64(), "row of the lock; -1 for an image that it does not name"),
        Column("status", pa.string(), "as in rehydrated"),
        Column("detail", pa.string(), "as in rehydrated", nullable=True),
    ),
)

DEAD = TableSchema(
    "dead",
    1,
    "What a selection leaves out of its pool, because the image is gone or changed.",
    (
        Column("what", pa.string(), "urls: every pair of this URL | pairs: this pair | kept: never this pair"),
        Column("hash", pa.uint64(), "xxh3-64 of the normalised URL, or the folded pair id"),
    ),
)

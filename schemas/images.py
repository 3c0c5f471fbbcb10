"""Images: what fetch leaves for each image URL, and what deduplication leaves of that."""

import pyarrow as pa

from schemas.candidates import PAIR_ID
from schemas.table import Column, TableSchema

PAIR = pa.struct(
    [
        pa.field("pair_id", PAIR_ID, nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("text_source", pa.string(), nullable=False),
        pa.field("image_source", pa.string(), nullable=False),
        pa.field("language", pa.string()),
        pa.field("page_url", pa.string()),
        pa.field("archive", pa.string(), nullable=False),
        pa.field("record_offset", pa.int64(), nullable=False),
        pa.field("fetch_date", pa.string()),
        pa.field("license", pa.string()),
        pa.field("query_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("drawn_by", pa.list_(pa.int32()), nullable=False),
        pa.field("priority", pa.float64(), nullable=False),
    ]
)

_IMAGE_COLUMNS = (
    Column("url", pa.string(), "image URL, unique in a build"),
    Column("split", pa.string(), "train, val or test"),
    Column("pairs", pa.list_(PAIR), "the selected texts of this image with their lineage, by priority"),
    Column("width", pa.int32(), "pixels, as stored"),
    Column("height", pa.int32(), "pixels, as stored"),
    Column("original_width", pa.int32(), "pixels, as served (after EXIF orientation)"),
    Column("original_height", pa.int32(), "pixels, as served (after EXIF orientation)"),
    Column("original_format", pa.string(), "JPEG | PNG | WEBP | GIF …, by magic bytes"),
    Column("original_bytes", pa.int64(), "size of the body as served"),
    Column("sha256", pa.string(), "hex sha256 of the body as served"),
    Column("phash", pa.uint64(), "64-bit perceptual hash (DCT) of the decoded image"),
)

IMAGES = TableSchema(
    "images",
    1,
    "One row an image that was fetched, decoded and resized.",
    (*_IMAGE_COLUMNS, Column("image", pa.binary(), "JPEG as it will stand in the shard")),
)

SURVIVORS = TableSchema(
    "survivors",
    1,
    "Images that deduplication kept; the bytes stay where fetch wrote them.",
    (
        *_IMAGE_COLUMNS,
        Column("duplicates", pa.int32(), "images this one stands for, itself not counted"),
        Column("source_row", pa.int64(), "row in the images file of the same name"),
    ),
)

COPIES = TableSchema(
    "copies",
    1,
    "For the images file of the same name: rows that lose to a better copy, and rows that stand for others.",
    (
        Column("row", pa.int64(), "row in this images file"),
        Column("dropped", pa.bool_(), "true: this row loses; false: this row stands for the other"),
        Column("other_file", pa.int32(), "number of the other image's file, in order of name"),
        Column("other_row", pa.int64(), "its row there"),
    ),
)

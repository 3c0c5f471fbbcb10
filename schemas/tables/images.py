"""Define the tables of images that fetch and dedup write."""

import pyarrow as pa

from openwit.schemas.table import Column, TableSchema
from openwit.schemas.tables.candidates import PAIR_ID

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
        pa.field("columns", pa.string()),
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
    Column("format", pa.string(), "jpg | png | webp | gif | bmp | tiff | avif: format and ending in the shard"),
    Column("exif", pa.string(), "EXIF data as served, a JSON object of texts; null if not asked for", True),
    Column("pixels_hash", pa.string(), "hex xxh3-128 of size and resized RGB pixels, before encoding"),
    Column("phash", pa.uint64(), "64-bit perceptual hash (DCT) of the decoded image"),
    Column("fingerprint", pa.binary(44), "descriptor: 256 signs of frequencies and the colours of the quarters"),
)

IMAGES = TableSchema(
    "images",
    4,
    "One row per image that was fetched and decoded.",
    (*_IMAGE_COLUMNS, Column("image", pa.binary(), "the file as written to the shard, of `format`")),
)

SURVIVORS = TableSchema(
    "survivors",
    4,
    "Images that deduplication kept; the bytes stay where fetch wrote them.",
    (
        *_IMAGE_COLUMNS,
        Column("duplicates", pa.int32(), "dropped duplicates of this image"),
        Column("source_row", pa.int64(), "row in the images file of the same name"),
    ),
)

COPIES = TableSchema(
    "copies",
    3,
    "Dropped rows of the images file of the same name: duplicates of a better image or of an evaluation image, or "
    "images of one colour.",
    (
        Column("row", pa.int64(), "row in this images file"),
        Column("reason", pa.string(), "duplicate_bytes, duplicate_pixels, near_duplicate, frequent_image …"),
        Column("other_file", pa.int32(), "number of the survivor's file, in order of name", True),
        Column("other_row", pa.int64(), "the survivor's row in that file", True),
        Column("distance", pa.int32(), "bits in which the two perceptual hashes differ", True),
        Column("evaluation_image", pa.string(), "name of the evaluation image that this is a duplicate of", True),
        Column("variant", pa.string(), "variant of the evaluation image, see excluded", True),
    ),
)

DUPLICATE_EXAMPLES = TableSchema(
    "duplicate_examples",
    1,
    "Some of the dropped duplicates, with their pictures, for the card.",
    (
        Column("reason", pa.string(), "drop reason: duplicate_bytes, near_duplicate, frequent_image …"),
        Column("url", pa.string(), "dropped image"),
        Column("text", pa.string(), "its first text"),
        Column("image", pa.binary(), "JPEG thumbnail"),
        Column("kept_url", pa.string(), "its survivor, or the evaluation image that it is a duplicate of", True),
        Column("kept_text", pa.string(), "first text of that image", True),
        Column("kept_image", pa.binary(), "JPEG thumbnail", True),
        Column("distance", pa.int32(), "bits in which the two perceptual hashes differ", True),
    ),
)

EXCLUDED = TableSchema(
    "excluded",
    1,
    "Images that were dropped because they are duplicates of evaluation images.",
    (
        Column("url", pa.string(), "dropped image"),
        Column("text", pa.string(), "its first text"),
        Column("evaluation_image", pa.string(), "name of the evaluation image: file, and member or row in it"),
        Column("variant", pa.string(), "same_bytes, or what was done to the evaluation image: same, centre_6 …"),
        Column("distance", pa.int32(), "bits in which the two perceptual hashes differ", True),
    ),
)

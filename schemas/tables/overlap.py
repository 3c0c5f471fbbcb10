"""Define the report of what a dataset and an evaluation set have in common."""

import pyarrow as pa

from openwit.schemas.table import Column, TableSchema

OVERLAP = TableSchema(
    "overlap",
    1,
    "One row per evaluation image and sample that show the same; of an evaluation image without such a sample one row "
    "whose sample is null. All: every evaluation image; overlap: those with a sample; clean: those without.",
    (
        Column("evaluation_file", pa.string(), "file of the evaluation image, as the command named it"),
        Column("evaluation_member", pa.string(), "its name in a tar, its row in a Parquet file; empty for a file"),
        Column("evaluation_sha256", pa.string(), "hex sha256 of its bytes"),
        Column("sample_uid", pa.string(), "uid of the sample; null if no sample shows the same", nullable=True),
        Column("sample_key", pa.string(), "key of the sample in its input, null if it has none", nullable=True),
        Column("sample_file", pa.string(), "shard, tar, table or folder of the sample", nullable=True),
        Column("sample_place", pa.int64(), "row in a table, byte offset of the image in a tar", nullable=True),
        Column("sample_url", pa.string(), "image URL, or a name in its place", nullable=True),
        Column("sample_text", pa.string(), "first text of the sample", nullable=True),
        Column("variant", pa.string(), "same_bytes, same_pixels, or the variant that is near: same …", nullable=True),
        Column("distance", pa.int32(), "bits in which the two perceptual hashes differ; 0: equal", nullable=True),
    ),
)

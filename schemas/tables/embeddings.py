"""Define the table of embeddings that the stage embed writes."""

from collections.abc import Mapping

import pyarrow as pa

from openwit.schemas.table import Column, TableSchema

EMBEDDINGS = TableSchema(
    "embeddings",
    1,
    "One row per embedded sample of a shard, in the shard's order. The columns image_embedding and text_embedding "
    "follow, as lists of a fixed number of floats: the vectors of the image, and of the caption.",
    (
        Column("key", pa.string(), "key of the sample in its shard"),
        Column("split", pa.string(), "split of the shard"),
        Column("url", pa.string(), "image URL"),
        Column("caption", pa.string(), "the first text, which is the one that is embedded"),
    ),
)

VECTOR_COLUMNS = {"images": "image_embedding", "texts": "text_embedding"}
"""Columns of vectors by what is embedded."""


def embeddings_of(dimensions: Mapping[str, int], dtype: str) -> TableSchema:
    """Return the table with its vectors.

    Args:
        dimensions: by what is embedded: `images`, `texts`.
        dtype: `float16` or `float32`.
    """
    number = pa.float16() if dtype == "float16" else pa.float32()
    return EMBEDDINGS.extended(
        Column(VECTOR_COLUMNS[name], pa.list_(number, size), f"vector of the sample's {name[:-1]}")
        for name, size in dimensions.items()
    )

"""Convert keys of images to blobs: columns by bucket of a hash."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from openwit.pipeline.execution.blobs import concat_blobs, fixed_bytes, from_bytes, split_by, to_blob
from openwit.pipeline.execution.jobs import KeyedBlob
from openwit.pipeline.stages.dedup.copies import Columns
from openwit.pipeline.stages.select.hash_uniform import mix

NODE = ("id", "hash", "rank", "tie", "bytes", "pixels")
"""What is known of an image: enough to rank it, to name it, and to tell why another leaves for it."""


def columns_of(blobs: Iterable[bytes]) -> Columns:
    """Return the rows of some blobs, at least one, as arrays."""
    table = concat_blobs(list(blobs))
    return {name: _numpy(table.column(name)) for name in table.column_names}


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    return fixed_bytes(column) if pa.types.is_fixed_size_binary(column.type) else column.to_numpy()


def table_of(columns: Columns) -> pa.Table:
    """Return arrays as a table; those of two dimensions as binary values of one width."""
    return pa.table({name: values if values.ndim == 1 else from_bytes(values) for name, values in columns.items()})


def by_bucket(stream: str, columns: Columns, key: str, buckets: int) -> Iterator[KeyedBlob]:
    """Yield the rows as blobs of a stream, by bucket of a key column.

    The key is mixed first: the bits of a perceptual hash are far from uniform.
    """
    for bucket, part in split_by(table_of(columns), (mix(columns[key]) % np.uint64(buckets)).astype(np.int64)):
        yield KeyedBlob(stream, bucket, to_blob(part))

"""Turn surviving images into the rows and tar members of samples, column by column."""

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.schemas.tables.samples import SAMPLES

_LISTS = {
    "texts": "text",
    "query_ids": "query_ids",
    "drawn_by": "drawn_by",
    "priorities": "priority",
    "text_sources": "text_source",
    "languages": "language",
    "page_urls": "page_url",
    "archives": "archive",
    "record_offsets": "record_offset",
    "licenses": "license",
}
_SCALARS = ("url", "width", "height", "original_width", "original_height", "original_format", "sha256", "duplicates")
_HEX = np.frombuffer(b"".join(b"%02x" % n for n in range(256)), "S2")
_Document: Any = msgspec.defstruct("_Document", sorted(SAMPLES.arrow.names))


def sample_keys(shard: int, first: int, rows: int) -> list[str]:
    """Return the keys of `rows` samples of a shard from `first` on: shard number, then sample number."""
    return [f"{shard:05d}{row:05d}" for row in range(first, first + rows)]


def sample_rows(keys: list[str], survivors: pa.Table) -> pa.Table:
    """Turn rows of schemas.tables.images.SURVIVORS into rows of schemas.tables.samples.SAMPLES, in the same order."""
    survivors = survivors.combine_chunks()
    pairs = _one_chunk(survivors.column("pairs"))
    offsets, values = pairs.offsets, pairs.values
    columns: dict[str, Any] = {
        name: pa.ListArray.from_arrays(offsets, values.field(member)) for name, member in _LISTS.items()
    }
    ids = np.frombuffer(b"".join(values.field("pair_id").to_pylist()), np.uint8).reshape(-1, 16)
    columns["pair_ids"] = pa.ListArray.from_arrays(offsets, _hex(ids))
    columns["caption"] = pc.list_element(columns["texts"], 0)
    columns["key"] = pa.array(keys, pa.string())
    columns["status"] = pa.repeat("success", len(keys))
    columns["error_message"] = pa.nulls(len(keys), pa.string())
    hashes = survivors.column("phash").to_numpy().astype(">u8")
    columns["phash"] = _hex(hashes.view(np.uint8).reshape(-1, 8))
    return SAMPLES.table(columns | {name: survivors.column(name) for name in _SCALARS})


def sample_documents(samples: pa.Table) -> list[bytes]:
    """Return the `.json` member of each row of openwit.schemas.tables.samples.SAMPLES: sorted keys, UTF-8."""
    encode = msgspec.json.Encoder().encode
    columns = [_values(_one_chunk(samples.column(name))) for name in _Document.__struct_fields__]
    return [encode(_Document(*row)) for row in zip(*columns, strict=True)]


def shard_stats(rows: int) -> dict[str, Any]:
    """Return img2dataset's per-shard statistics, without times, so that the same build gives the same bytes."""
    return {
        "count": rows,
        "successes": rows,
        "failed_to_download": 0,
        "failed_to_resize": 0,
        "status_dict": {"success": rows},
    }


def _values(array: pa.Array) -> list[Any]:
    """Return what `to_pylist` returns, but faster: one conversion per column, lists sliced by offsets."""
    if not len(array):
        return []
    if pa.types.is_list(array.type):
        start, *_, end = bounds = array.offsets.to_numpy().tolist()
        flat = _values(array.values.slice(start, end - start))
        return [flat[a - start : b - start] for a, b in pairwise(bounds)]
    if pa.types.is_string(array.type) or not array.null_count:
        values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
        return values
    plain: list[Any] = array.to_pylist()
    return plain


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([*column.chunks, pa.array([], column.type)])


def _hex(raw: np.ndarray) -> pa.Array:
    """Return the rows of a uint8 (N, K) array as lower-case hex strings."""
    length = 2 * raw.shape[1]
    text = _HEX[np.ascontiguousarray(raw)].tobytes()
    offsets = np.arange(len(raw) + 1, dtype=np.int32) * length
    return pa.StringArray.from_buffers(len(raw), pa.py_buffer(offsets), pa.py_buffer(text))

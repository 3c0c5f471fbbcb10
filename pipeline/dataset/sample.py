"""Turn surviving images into the rows and tar members of samples, column by column."""

import functools
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.common.column_types import type_named
from openwit.pipeline.common.column_values import UID
from openwit.pipeline.dataset.kept_columns import kept_columns
from openwit.schemas.tables.samples import SAMPLES, samples_with

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
_SCALARS = (
    "url", "width", "height", "original_width", "original_height", "original_format", "sha256", "duplicates",
    "format", "exif",
)  # fmt: skip
_NO_TYPES: Mapping[str, str] = MappingProxyType({})
_HEX = np.frombuffer(b"".join(b"%02x" % n for n in range(256)), "S2")


def sample_keys(shard: int, first: int, rows: int) -> list[str]:
    """Return the keys of `rows` samples of a shard from `first` on: shard number, then sample number."""
    return [f"{shard:05d}{row:05d}" for row in range(first, first + rows)]


def sample_rows(keys: list[str], survivors: pa.Table, types: Mapping[str, str] = _NO_TYPES) -> pa.Table:
    """Turn rows of schemas.tables.images.SURVIVORS into rows of schemas.tables.samples.SAMPLES, in the same order.

    Args:
        keys: of the samples, N.
        survivors: N rows.
        types: of the columns that were kept of the inputs, by name; they follow the others.
    """
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
    columns |= {name: survivors.column(name) for name in _SCALARS}
    starts = offsets[: len(keys)]
    columns["uid"] = columns["pair_ids"].values.take(starts)
    kept = values.field("columns")
    if types or kept.null_count < len(kept):
        own = kept_columns(kept, offsets.to_numpy(), types)
        columns["uid"] = pc.coalesce(own.pop(UID), columns["uid"])
        return samples_with((name, type_named(kind)) for name, kind in types.items()).table(columns | own)
    return SAMPLES.table(columns)


def sample_documents(samples: pa.Table) -> list[bytes]:
    """Return the `.json` member of each row of openwit.schemas.tables.samples.SAMPLES: sorted keys, UTF-8.

    Of the columns that were kept of the inputs, times are in ISO 8601, bytes in base64, decimals text, and numbers
    that are none null.
    """
    encode = msgspec.json.Encoder().encode
    names = tuple(sorted(samples.column_names))
    document = _document(names)
    columns = [_values(_in_json(_one_chunk(samples.column(name)))) for name in names]
    return [encode(document(*row)) for row in zip(*columns, strict=True)]


@functools.lru_cache
def _document(names: tuple[str, ...]) -> Any:
    """Return a class whose objects are encoded as JSON objects with these names, which may be any text."""
    fields = [f"f{number}" for number in range(len(names))]
    return msgspec.defstruct("_Document", fields, rename=dict(zip(fields, names, strict=True)))


def _in_json(column: pa.Array) -> pa.Array:
    """Return a column in the nearest type that JSON can show: microseconds are its finest."""
    fine = _in_microseconds(column.type)
    return column if fine == column.type else column.cast(fine, safe=False)


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_list(kind):
        return pa.list_(_in_microseconds(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _in_microseconds(field.type)) for field in kind])
    return kind


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
    if pa.types.is_string(array.type) or (_is_number(array.type) and not array.null_count):
        values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
        return values
    plain: list[Any] = array.to_pylist()
    return plain


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([*column.chunks, pa.array([], column.type)])


def _hex(raw: np.ndarray) -> pa.Array:
    """Return the rows of a uint8 (N, K) array as lower-case hex strings."""
    length = 2 * raw.shape[1]
    text = _HEX[np.ascontiguousarray(raw)].tobytes()
    offsets = np.arange(len(raw) + 1, dtype=np.int32) * length
    return pa.StringArray.from_buffers(len(raw), pa.py_buffer(offsets), pa.py_buffer(text))

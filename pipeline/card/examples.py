"""Sample pairs for the card: the first of the dataset, which its shuffle has already drawn by chance."""

import base64
import io
import mmap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from schemas.manifest import DatasetManifest, ShardEntry

_SIDE = 160


def example_pairs(folder: Path, manifest: DatasetManifest, split: str, n: int) -> list[dict[str, Any]]:
    """Up to `n` samples of a split: key, texts, URL and the image as a data URI."""
    found: list[dict[str, Any]] = []
    for shard in manifest.shards_of(split):
        if len(found) >= n:
            break
        found += _from_shard(folder, shard, n - len(found))
    return found


def _from_shard(folder: Path, shard: ShardEntry, n: int) -> list[dict[str, Any]]:
    table = pq.read_table(folder / shard.metadata.path, columns=["key", "url", "texts"]).slice(0, n)
    rows: list[dict[str, Any]] = table.to_pylist()
    with pa.memory_map(str(folder / shard.index.path)) as source:
        index = pa.ipc.open_file(source).read_all().slice(0, n).to_pylist()
    with (folder / shard.tar.path).open("rb") as tar, mmap.mmap(tar.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for row, entry in zip(rows, index, strict=True):
            start = entry["image_offset"]
            row["image"] = _data_uri(data[start : start + entry["image_size"]])
    return rows


def _data_uri(jpeg: bytes) -> str:
    with Image.open(io.BytesIO(jpeg)) as image:
        image.thumbnail((_SIDE, _SIDE))
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()

"""Inputs of benchmarks/workers.py: finished stage folders of made-up rows, and a table of real captions."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from openwit.pipeline.common.host_buckets import host_bucket
from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job, StageResult, run_stage
from openwit.pipeline.stages import stage_named
from openwit.schemas.manifest import FunnelStep
from openwit.schemas.table import TableSchema
from openwit.schemas.tables.candidates import SELECTED
from openwit.schemas.tables.images import IMAGES, PAIR
from openwit.schemas.tables.queries import QUERY_COUNTS

_QUERY = "photo"
_ROWS_PER_FILE = 25_000
_LARGEST_CHANGE = 6
_HOSTS = 40


def write_selected(folder: Path, urls: int, port: int) -> None:
    """Write a selection of URLs of a server on the loopback addresses, on `_HOSTS` hosts."""
    names = [f"http://127.0.1.{1 + n % _HOSTS}:{port}/{n}" for n in range(urls)]
    nothing = dict.fromkeys(SELECTED.arrow.names)
    rows = [
        {
            **nothing,
            "pair_id": hashlib.md5(name.encode()).digest(),
            "url": name,
            "text": f"{_QUERY} number {n}",
            "text_source": "alt",
            "image_source": "img",
            "archive": "made",
            "record_offset": n,
            "has_bytes": False,
            "split": "train",
            "query_ids": [0],
            "drawn_by": [0],
            "priority": n / urls,
            "host_bucket": host_bucket(name, False, "", 0),
        }
        for n, name in enumerate(names)
    ]
    rows.sort(key=lambda row: row["host_bucket"])
    table = pa.Table.from_pylist(rows, SELECTED.arrow)
    _finish(folder, "select", ("pairs",), urls, SELECTED, "selected", lambda _: table)


def write_images(folder: Path, images: int, *, image_bytes: int = 10, seed: int = 0) -> None:
    """Write fetched images: random hashes, 5 % near duplicates, 1 % a placeholder; JPEGs with random bytes behind."""
    chance = np.random.default_rng(seed)

    def made(first: int) -> pa.Table:
        return _images(chance, first, min(_ROWS_PER_FILE, images - first), image_bytes)

    _finish(folder, "fetch", ("images", "pairs"), images, IMAGES, "images", made)


def _images(chance: np.random.Generator, first: int, count: int, image_bytes: int) -> pa.Table:
    hashes = chance.integers(0, 2**64, count, np.uint64)
    looks = chance.integers(0, 256, (count, 44), np.uint8)
    near = np.arange(0, count - 1, 20)
    bits = np.uint64(1) << chance.integers(0, 64, (len(near), _LARGEST_CHANGE), np.uint64)
    hashes[near + 1] = hashes[near] ^ np.bitwise_xor.reduce(bits, axis=1)
    looks[near + 1] = looks[near]
    same = np.arange(50, count, 100)
    hashes[same], looks[same] = np.uint64(0x0123456789ABCDEF), 77
    numbers = np.arange(first, first + count)
    urls = [f"http://host{n % 9973}.example.org/{n}.jpg" for n in numbers]
    texts = [f"{_QUERY} number {n}" for n in numbers]
    ids = pa.array([hashlib.md5(url.encode()).digest() for url in urls], pa.binary(16))
    one = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), np.zeros(count, np.int32))
    known = {
        "pair_id": ids,
        "text": pa.array(texts),
        "text_source": pa.repeat("alt", count),
        "image_source": pa.repeat("img", count),
        "archive": pa.repeat("made", count),
        "record_offset": pa.array(numbers),
        "query_ids": one,
        "drawn_by": one,
        "priority": pa.array(chance.random(count)),
    }
    pairs = pa.StructArray.from_arrays(
        [known.get(field.name, pa.nulls(count, field.type)).cast(field.type) for field in PAIR], fields=list(PAIR)
    )
    sides = chance.integers(300, 3000, (2, count))
    digests = [hashlib.sha256(url.encode()).hexdigest() for url in urls]
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "navy").save(picture, "JPEG")
    bodies = [picture.getvalue() + chance.bytes(image_bytes) for _ in range(count)]
    return IMAGES.table(
        {
            "url": urls,
            "split": ["train"] * count,
            "pairs": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), pairs),
            "width": np.full(count, 256, np.int32),
            "height": np.full(count, 256, np.int32),
            "original_width": sides[0].astype(np.int32),
            "original_height": sides[1].astype(np.int32),
            "original_format": ["JPEG"] * count,
            "format": ["jpg"] * count,
            "exif": [None] * count,
            "original_bytes": np.full(count, 10 * image_bytes, np.int64),
            "sha256": digests,
            "pixels_hash": [digest[:32] for digest in digests],
            "phash": hashes,
            "fingerprint": pa.array([look.tobytes() for look in looks], pa.binary(44)),
            "image": bodies,
        }
    )


def _finish(
    folder: Path,
    stage: str,
    units: tuple[str, ...],
    rows: int,
    schema: TableSchema,
    kind: str,
    made: Callable[[int], pa.Table],
) -> None:
    """Write the folder of a finished stage, `_ROWS_PER_FILE` rows a file."""

    def execute() -> StageResult:
        result = StageResult()
        for unit in units:
            result.funnel.append(FunnelStep(stage=stage, unit=unit, rows_in=rows, rows_out=rows, reasons={}))
        for number, first in enumerate(range(0, rows, _ROWS_PER_FILE)):
            path = folder / kind / f"{number:05d}.parquet"
            schema.write(path, made(first), row_group_size=4096)
            result.files.append(file_entry(folder, path))
        counts = {"query_id": [0], "query": [_QUERY], "source": ["table"], "threshold": [1.0]}
        counts |= {name: [rows] for name in ("pool", "drawn", "kept")}
        QUERY_COUNTS.write(folder / "queries.parquet", QUERY_COUNTS.table(counts))
        result.files.append(file_entry(folder, folder / "queries.parquet"))
        return result

    run_stage(Job(make_engine("local", 1)), folder, stage, stage_named(stage).version, {}, {}, execute)

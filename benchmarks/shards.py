"""Samples per CPU second into a tar, against webdataset.ShardWriter.

    python benchmarks/shards.py --photos ../shared/data/photos.parquet --samples 4000 --rounds 5

Both write the same samples to a tar each: image, text and JSON. ShardWriter is given the sample as a dictionary and
encodes the JSON itself; we begin with the Arrow rows that deduplication leaves, and the images as mapped bytes. The
members are compared: names, images, texts, and the JSON documents as values. `beside` adds what we write besides
(metadata, index, statistics, the sha256 of each file, and fsync); `stage` is the whole of `wit shard` with its
first pass, Beam included. The rounds interleave them; figures are medians. Rows repeat the photos with texts and keys
of their own.
"""

import argparse
import gc
import hashlib
import json
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from openwit.pipeline.dataset.sample import sample_keys, sample_rows
from openwit.pipeline.dataset.tar_writer import TarWriter
from openwit.pipeline.dataset.write_shard import HeldImages, add_samples, write_shard
from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job, StageResult, run_stage
from openwit.pipeline.stages.base import BuildContext, DatasetInfo
from openwit.pipeline.stages.shard import Shard
from openwit.pipeline.stages.shard.settings import ShardSettings
from openwit.schemas.tables.images import IMAGES, SURVIVORS

_BLOCK_ROWS = 1024


def load_photos(path: Path, column: str) -> list[bytes]:
    """JPEGs of a Parquet file."""
    if not path.is_file():
        sys.exit(f"{path} does not exist: name a Parquet file with a column {column!r} by --photos")
    bodies: list[bytes] = pq.read_table(path, columns=[column]).column(column).to_pylist()
    return bodies


def make_row(number: int, image: bytes) -> dict[str, Any]:
    """A row of IMAGES and SURVIVORS with one or two texts, as a crawl gives them."""
    digest = hashlib.sha256(b"%d" % number).digest()
    pairs = [
        {
            "pair_id": hashlib.md5(b"%d %d" % (number, n)).digest(),
            "text": f"Photo no. {number} of a garden in late summer, seen from its northern gate ({n})",
            "text_source": "alt",
            "image_source": "src",
            "language": "en",
            "page_url": f"https://pages.example.org/gallery/{number // 10}.html",
            "archive": "crawl-data/CC-MAIN-2024-22/segments/1715971057216.39/warc/CC-MAIN-00000.warc.gz",
            "record_offset": 1_000_000 + 977 * number,
            "fetch_date": None,
            "license": None,
            "query_ids": [number % 500_000, (7 * number) % 500_000, (11 * number) % 500_000],
            "drawn_by": [number % 500_000],
            "priority": digest[n] / 256,
        }
        for n in range(1 + number % 2)
    ]
    return {
        "url": f"https://images.example.org/2024/05/{number}.jpg", "split": "train", "pairs": pairs, "width": 256,
        "height": 256, "original_width": 1024, "original_height": 768, "original_format": "JPEG", "format": "jpg",
        "exif": None,
        "original_bytes": len(image), "sha256": digest.hex(), "pixels_hash": digest[::-1].hex(),
        "fingerprint": bytes(44), "phash": int.from_bytes(digest[:8], "big"), "image": image,
        "duplicates": number % 2, "source_row": number,
    }  # fmt: skip


class NoDigest:
    """Takes bytes and does nothing: ShardWriter makes no sum either."""

    def update(self, data: bytes, /) -> None:
        """Nothing."""


def by_ours(target: Path, survivors: pa.Table, images: list[memoryview]) -> None:
    """The tar alone, from Arrow rows."""
    with target.open("wb", buffering=0) as file:
        writer = TarWriter(file, NoDigest())
        for first in range(0, survivors.num_rows, _BLOCK_ROWS):
            part = survivors.slice(first, _BLOCK_ROWS)
            rows = sample_rows(sample_keys(0, first, part.num_rows), part)
            add_samples(writer, rows, images[first : first + _BLOCK_ROWS])
        writer.close()


def by_shard_writer(target: Path, samples: list[dict[str, Any]]) -> None:
    """webdataset's writer with one shard for all."""
    with webdataset.ShardWriter(str(target), maxcount=len(samples) + 1, maxsize=1e12, verbose=0) as writer:
        for sample in samples:
            writer.write(sample)


def members_of(path: Path) -> dict[str, Any]:
    """Members of a tar by name, JSON as values."""
    with tarfile.open(path) as tar:
        read = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    return {name: json.loads(data) if name.endswith(".json") else data for name, data in read.items()}


def finished_stages(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Folders of fetch and dedup with these images, for the whole stage."""
    job = Job(make_engine("local", 1))

    def write(kind: str, schema: Any, extra: dict[str, Any]) -> Callable[[], StageResult]:
        def body() -> StageResult:
            place = folder / ("fetch" if kind == "images" else "dedup")
            path = place / kind / "00000.parquet"
            table = pa.Table.from_pylist([{c: r[c] for c in schema.arrow.names} for r in rows], schema.arrow)
            schema.write(path, table, row_group_size=512)
            return StageResult(files=[file_entry(place, path)], extra=extra)

        return body

    run_stage(job, folder / "fetch", "fetch", 1, {}, {}, write("images", IMAGES, {}))
    run_stage(job, folder / "dedup", "dedup", 1, {}, {}, write("survivors", SURVIVORS, {"images": "../fetch"}))
    return folder / "dedup"


def timed(action: Callable[[], None]) -> tuple[float, float]:
    """CPU and wall seconds."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/photos.parquet"))
    parser.add_argument("--column", default="jpeg")
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    photos = load_photos(arguments.photos, arguments.column)
    rows = [make_row(n, photos[n % len(photos)]) for n in range(arguments.samples)]
    bytes_each = sum(len(row["image"]) for row in rows) / len(rows)
    survivors = pa.Table.from_pylist([{c: r[c] for c in SURVIVORS.arrow.names} for r in rows], SURVIVORS.arrow)
    images = [memoryview(row["image"]) for row in rows]
    documents = sample_rows(sample_keys(0, 0, len(rows)), survivors).to_pylist()
    samples = [
        {"__key__": d["key"], "jpg": row["image"], "txt": d["caption"], "json": d}
        for d, row in zip(documents, rows, strict=True)
    ]
    with tempfile.TemporaryDirectory(prefix="openwit-") as name:
        folder = Path(name)
        deduplicated = finished_stages(folder, rows)
        job, build = Job(make_engine("local", 1)), BuildContext(dataset=DatasetInfo("bench"))

        def stage() -> None:
            settings = ShardSettings(samples=max(1, len(rows) // 4))
            Shard().run(job, settings, {"survivors": deduplicated}, folder / "dataset", build=build)

        ways: dict[str, Callable[[], Any]] = {
            "webdataset.ShardWriter": lambda: by_shard_writer(folder / "theirs-%d.tar", samples),
            "ours, tar": lambda: by_ours(folder / "ours.tar", survivors, images),
            "ours, beside": lambda: write_shard(folder / "00000", 0, survivors=survivors, images=HeldImages(images)),
            "ours, stage": stage,
        }
        for action in ways.values():
            action()
        assert members_of(folder / "ours.tar") == members_of(folder / "theirs-0.tar"), "the tars differ"
        assert list(members_of(folder / "ours.tar")) == list(members_of(folder / "00000.tar"))
        # The samples held here for all rounds are not to be walked by the collector in the middle of one.
        gc.freeze()
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way, action in ways.items():
                # To free an old file's pages is no part of writing a new one.
                shutil.rmtree(folder / "dataset", ignore_errors=True)
                for old in folder.glob("*.*"):
                    old.unlink()
                times[way].append(timed(action))
        report(times, len(rows), bytes_each)


def report(times: dict[str, list[tuple[float, float]]], samples: int, bytes_each: float) -> None:
    """Prints the medians and their ratios to the first way."""
    print(f"{samples:,} samples of {bytes_each / 1e3:.0f} kB, the same members in both tars")
    medians = {way: [statistics.median(column) for column in zip(*pairs, strict=True)] for way, pairs in times.items()}
    base = next(iter(medians.values()))
    for way, (cpu, wall) in medians.items():
        rates = f"{samples / cpu:9,.0f} samples per CPU second, {samples / wall:9,.0f} per wall second"
        print(f"{way:24} {rates}, ratio {base[0] / cpu:5.2f} CPU, {base[1] / wall:5.2f} wall")


if __name__ == "__main__":
    main()

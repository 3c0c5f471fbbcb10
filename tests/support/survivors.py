"""Finished fetch and dedup folders made by hand: what the shard stage begins with."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job, StageResult, run_stage
from openwit.schemas.manifest import FunnelStep
from openwit.schemas.tables.images import IMAGES, SURVIVORS
from openwit.schemas.tables.queries import QUERY_COUNTS

HOSTS = ("a.example.org", "img.b.example.org", "c.test", "xn--bcher-kva.example")
QUERIES = ("kite", "heron", "wren")


def survivor(number: int, image: bytes, texts: int = 1, split: str = "train") -> dict[str, Any]:
    """A row of SURVIVORS and IMAGES in one."""
    pairs = [
        {
            "pair_id": hashlib.md5(f"{number}/{n}".encode()).digest(),
            "text": f"a {QUERIES[(number + n) % 3]} no. {number}, «{n}» → \U0001f985",
            "text_source": "alt",
            "image_source": "img",
            "language": None if number % 5 == 0 else "en",
            "page_url": None if n else f"http://pages.example.net/{number}",
            "archive": "crawl.warc.gz",
            "record_offset": 1000 * number + n,
            "fetch_date": None,
            "license": None,
            "columns": None,
            "query_ids": [(number + n) % 3],
            "drawn_by": [(number + n) % 3] if n == 0 else [],
            "priority": (number % 7) / 7,
        }
        for n in range(texts)
    ]
    return {
        "url": f"https://{HOSTS[number % 4]}/images/{number}.jpg",
        "split": split,
        "pairs": pairs,
        "width": 96,
        "height": 80,
        "original_width": 960,
        "original_height": 800,
        "original_format": "JPEG",
        "original_bytes": 10 * len(image),
        "sha256": hashlib.sha256(b"%d" % number + image).hexdigest(),
        "format": "jpg",
        "exif": None,
        "pixels_hash": hashlib.sha256(b"pixels" + image).hexdigest(),
        "fingerprint": bytes(44),
        "phash": int.from_bytes(hashlib.md5(image).digest()[:8], "big"),
        "image": image,
        "duplicates": number % 3,
    }


def finished_dedup(folder: Path, files: list[list[dict[str, Any]]], drop_every: int = 4) -> Path:
    """Stage folders FOLDER/fetch and FOLDER/dedup of some images, of which dedup took out every n-th."""
    job = Job(make_engine("local", 1))
    fetched, deduplicated = folder / "fetch", folder / "dedup"
    total = sum(map(len, files))
    pairs = sum(len(row["pairs"]) for rows in files for row in rows)
    kept = {"images": 0, "pairs": 0}

    def step(stage: str, unit: str, rows_in: int, rows_out: int) -> FunnelStep:
        reasons = {"near_duplicate": rows_in - rows_out} if rows_out < rows_in else {}
        return FunnelStep(stage=stage, unit=unit, rows_in=rows_in, rows_out=rows_out, reasons=reasons)

    def fetch() -> StageResult:
        result = StageResult(funnel=[step("fetch", "images", total, total), step("fetch", "pairs", pairs, pairs)])
        for n, rows in enumerate(files):
            path = fetched / "images" / f"{n:05d}.parquet"
            table = pa.Table.from_pylist([{c: row[c] for c in IMAGES.arrow.names} for row in rows], IMAGES.arrow)
            IMAGES.write(path, table, row_group_size=16 if len(rows) < 1000 else 256)
            result.files.append(file_entry(fetched, path))
        return result

    def dedup() -> StageResult:
        result = StageResult(extra={"images": "../fetch"})
        drawn = np.zeros(len(QUERIES), np.int64)
        for n, rows in enumerate(files):
            path = deduplicated / "survivors" / f"{n:05d}.parquet"
            left = [{**row, "source_row": at} for at, row in enumerate(rows) if at % drop_every]
            SURVIVORS.write(
                path,
                pa.Table.from_pylist([{c: r[c] for c in SURVIVORS.arrow.names} for r in left], SURVIVORS.arrow),
            )
            kept["images"] += len(left)
            kept["pairs"] += sum(len(row["pairs"]) for row in left)
            for row in left:
                for pair in row["pairs"]:
                    drawn[pair["query_ids"]] += 1
            result.files.append(file_entry(deduplicated, path))
        count = len(QUERIES)
        table = QUERY_COUNTS.table(
            {
                **dict.fromkeys(("pool", "drawn", "kept"), drawn),
                "query_id": list(range(count)),
                "query": QUERIES,
                "source": ["table"] * count,
                "threshold": [1.0] * count,
            }
        )
        QUERY_COUNTS.write(deduplicated / "queries.parquet", table)
        result.funnel = [
            step("dedup", "images", total, kept["images"]),
            step("dedup", "pairs", pairs, kept["pairs"]),
        ]
        return result

    fetch_manifest, _ = run_stage(job, fetched, "fetch", 1, {}, {}, fetch)
    run_stage(job, deduplicated, "dedup", 1, {}, {}, dedup, [fetch_manifest])
    return deduplicated

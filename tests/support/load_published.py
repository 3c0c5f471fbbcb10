"""Load a published dataset with `datasets` and `mlcroissant`, and print what they found, as JSON.

    python load_published.py DATASET CACHE

A program of its own, run offline: neither library is a dependency of ours, and both keep caches by environment.
"""

import json
import os
import sys
from pathlib import Path

folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
os.environ |= {
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": str(cache / "hf"),
    "CROISSANT_CACHE": str(cache / "croissant"),
}

import datasets  # noqa: E402
import mlcroissant  # noqa: E402

datasets.disable_progress_bars()


def decoded(sample: dict) -> list[int]:
    """Return the size of the image."""
    return list(sample["jpg"].size)


def main() -> None:
    """Load everything once."""
    found: dict = {}
    whole = datasets.load_dataset(str(folder), "webdataset")
    found["folder"] = {split: rows.num_rows for split, rows in whole.items()}
    found["sizes"] = [decoded(sample) for sample in whole["train"]]
    found["texts"] = whole["train"]["txt"][:]
    found["documents"] = whole["train"]["json"][:]
    found["streamed"] = sum(1 for _ in datasets.load_dataset(str(folder), split="train", streaming=True))
    splits = sorted(whole)
    tars = {split: f"{folder}/{split}/*.tar" for split in splits}
    features = whole["train"].features
    packaged = datasets.load_dataset("webdataset", data_files=tars, features=features)
    found["webdataset"] = {split: rows.num_rows for split, rows in packaged.items()}
    tables = {split: f"{folder}/{split}/*.parquet" for split in splits}
    found["parquet"] = {
        split: rows.num_rows for split, rows in datasets.load_dataset("parquet", data_files=tables).items()
    }

    described = mlcroissant.Dataset(str(folder / "croissant.json"))
    found["errors"] = sorted(described.metadata.ctx.issues.errors)
    found["warnings"] = sorted(described.metadata.ctx.issues.warnings)
    records = list(described.records("metadata"))
    found["records"] = len(records)
    found["splits"] = sorted({text(record["metadata/split"]) for record in records})
    found["captions"] = sorted(text(record["metadata/caption"]) for record in records)
    images = list(described.records("images"))
    found["images"] = len(images)
    found["keys"] = sorted(text(image["images/key"]) for image in images)
    found["image_sizes"] = sorted(list(image["images/image"].size) for image in images)
    json.dump(found, sys.stdout)


def text(value: object) -> str:
    """Return a text that may be bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


main()

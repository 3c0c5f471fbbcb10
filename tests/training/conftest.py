"""A small writer of dataset folders that follow the contract, and settings to train on them in seconds."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support.nursery import Nursery

from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.manifest import DatasetManifest, FileEntry, ShardEntry
from openwit.schemas.tables.samples import SAMPLES, SHARD_INDEX

# As the command does: before torch is loaded, so that its threads do not spin against other work on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@dataclass(frozen=True)
class Made:
    """A sample to be written."""

    key: str
    image: bytes
    texts: tuple[str, ...]


def jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    """Encodes (H, W, 3) bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def write_dataset(folder: Path, splits: dict[str, Sequence[Made]], per_shard: int = 1000, name: str = "made") -> Path:
    """Writes a dataset folder: tars, indexes, tables, manifest."""
    shards = [
        _write_shard(folder, split, number // per_shard, samples[number : number + per_shard])
        for split, samples in splits.items()
        for number in range(0, len(samples), per_shard)
    ]
    manifest = DatasetManifest(name=name, recipe={}, tools={}, funnel=[], shards=shards)
    manifest.save(folder)
    return folder


def _write_shard(folder: Path, split: str, number: int, samples: Sequence[Made]) -> ShardEntry:
    stem = folder / split / f"{number:05d}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    index: dict[str, list[Any]] = {column.name: [] for column in SHARD_INDEX.columns}
    with tarfile.open(f"{stem}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            index["key"].append(sample.key)
            document = {
                "key": sample.key,
                "url": f"http://x/{sample.key}",
                "caption": sample.texts[0] if sample.texts else "",
            }
            members = {
                "image": (".jpg", sample.image),
                "text": (".txt", document["caption"].encode()),
                "json": (".json", json.dumps({**document, "texts": sample.texts}).encode()),
            }
            for member, (suffix, data) in members.items():
                info = tarfile.TarInfo(sample.key + suffix)
                info.size = len(data)
                index[f"{member}_offset"].append(tar.offset + tarfile.BLOCKSIZE)
                index[f"{member}_size"].append(len(data))
                tar.addfile(info, io.BytesIO(data))
    table = SHARD_INDEX.table(index)
    with pa.ipc.new_file(f"{stem}.idx.arrow", table.schema) as writer:
        writer.write_table(table)
    SAMPLES.write(Path(f"{stem}.parquet"), _metadata(samples))
    Path(f"{stem}_stats.json").write_text("{}")
    entry = {
        kind: FileEntry(path=f"{split}/{path.name}", bytes=path.stat().st_size, sha256=sha256_of(path))
        for kind, path in {
            "tar": Path(f"{stem}.tar"),
            "metadata": Path(f"{stem}.parquet"),
            "index": Path(f"{stem}.idx.arrow"),
            "stats": Path(f"{stem}_stats.json"),
        }.items()
    }
    return ShardEntry(
        name=stem.name, split=split, samples=len(samples), pairs=sum(len(s.texts) for s in samples), **entry
    )


def _metadata(samples: Sequence[Made]) -> pa.Table:
    empty = [[] for _ in samples]
    columns: dict[str, Any] = {column.name: empty for column in SAMPLES.columns if pa.types.is_list(column.type)}
    columns |= {column.name: [0] * len(samples) for column in SAMPLES.columns if pa.types.is_integer(column.type)}
    columns |= {column.name: [""] * len(samples) for column in SAMPLES.columns if pa.types.is_string(column.type)}
    columns |= {
        "key": [s.key for s in samples],
        "caption": [s.texts[0] if s.texts else "" for s in samples],
        "texts": [list(s.texts) for s in samples],
    }
    return SAMPLES.table(columns)


COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 60),
    "blue": (40, 60, 220),
    "yellow": (230, 220, 40),
    "white": (240, 240, 240),
    "black": (15, 15, 15),
}
PLACES = ("top", "bottom", "left", "right")


def coloured(number: int, split: str) -> Made:
    """A picture of two colours and what it shows: something that a small model can learn in seconds."""
    names = list(COLOURS)
    ground = names[number % len(names)]
    figure = names[(number // len(names)) % len(names)]
    place = PLACES[(number // len(names) ** 2) % len(PLACES)]
    rng = np.random.default_rng((number, len(split)))
    pixels = np.empty((48, 64, 3), dtype=np.uint8)
    pixels[:] = COLOURS[ground]
    area = {
        "top": np.s_[:20, 16:48],
        "bottom": np.s_[28:, 16:48],
        "left": np.s_[12:36, 8:26],
        "right": np.s_[12:36, 38:56],
    }[place]
    pixels[area] = COLOURS[figure]
    noisy = np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
    text = f"a {figure} box at the {place} of a {ground} ground"
    return Made(f"{split}{number:06d}", jpeg(noisy), (text, f"{figure} on {ground}, {place}"))


@pytest.fixture(scope="session")
def factory() -> SimpleNamespace:
    """The functions of this file, for tests that need a dataset of their own."""
    return SimpleNamespace(Made=Made, coloured=coloured, jpeg=jpeg, write_dataset=write_dataset)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """288 training and 48 held-out pictures of coloured boxes, in several shards."""
    folder = tmp_path_factory.mktemp("dataset")
    train = [coloured(number % 144, f"t{number // 144}-") for number in range(288)]
    val = [coloured(number * 3, "v-") for number in range(48)]
    return write_dataset(folder, {"train": train, "val": val}, per_shard=100)


Configure = Callable[..., dict[str, Any]]


@pytest.fixture
def configure(dataset: Path, tmp_path: Path) -> Configure:
    """Settings of a tiny run as plain data; keyword arguments replace whole sections."""

    def make(**sections: Any) -> dict[str, Any]:
        base: dict[str, Any] = {
            "run": str(tmp_path / "run"),
            "seed": 3,
            "device": "cpu",
            "threads": 1,
            "data": {"dataset": str(dataset), "batch_size": 24},
            "model": {
                "spec": {
                    "embed_dim": 32,
                    "vision": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "heads": 2},
                    "text": {"context_length": 24, "width": 16, "layers": 2, "heads": 2},
                },
                "patch_dropout": 0.25,
            },
            "optim": {"lr": 2e-3},
            "schedule": {"duration": "20 steps", "warmup": "10%"},
            "log": {"every": 1, "line_seconds": 1000, "tensorboard": False},
            "checkpoint": {"every": "5 steps", "keep": 3},
            "eval": {"split": "val"},
        }
        return {**base, **sections}

    return make


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts processes of training without loading torch in each of them, which takes six seconds."""
    made = Nursery(tmp_path_factory.mktemp("processes"))
    yield made
    made.close()

"""Samples a second from an S3 server on loopback with a delay, beside a local disk.

    python benchmarks/remote_loader.py --folder /tmp/remote-loader --delay 0.03

First it writes a dataset of made-up photographs (JPEG, 256 px short side; `--samples`, `--per-shard`). The server is
moto's, in a process of its own, that waits `--delay` seconds before it answers. Then one epoch of batches of 64 images
at 64 px (`decode: fast`), each way from the beginning with an empty cache:

* local: the folder, from the disk.
* copy: the whole split to the cache first; the copying counts.
* blocks: shards through a cache of two blocks, filled ahead and evicted; the second epoch is given too.
* ranges: samples by ranges of bytes, no disk.
* stream: whole tars from beginning to end, shuffled in a window.

The cache's largest size is sampled every 5 ms. `first` is the time to the first batch.
"""

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from PIL import Image
from support.s3_server import BUCKET, s3_server

BATCH = 64


def build(folder: Path, samples: int, per_shard: int) -> Path:
    """Write the dataset, unless it is there."""
    if (folder / "manifest.json").is_file():
        return folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "training"))
    from conftest import Made, jpeg, write_dataset

    def made(number: int) -> Any:
        coarse = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
        image = Image.fromarray(coarse).resize((341, 256), Image.Resampling.BICUBIC)
        return Made(f"{number:09d}", jpeg(np.asarray(image), 90), (f"photograph {number}",))

    return Path(write_dataset(folder, {"train": [made(number) for number in range(samples)]}, per_shard=per_shard))


def epochs(data: Any, count: int, peak: Path | None) -> SimpleNamespace:
    """Read epochs; return samples a second of each, seconds to the first batch and the cache's largest size."""
    from openwit.training.config.zoo import InputSpec
    from openwit.training.data.sources import open_loader, open_source
    from openwit.training.tokenizer.bpe import clip_tokenizer

    tokenizer, largest, over = clip_tokenizer(), [0], threading.Event()

    def watch() -> None:
        while peak is not None and not over.wait(0.005):
            try:
                largest[0] = max(largest[0], sum(path.stat().st_size for path in peak.iterdir() if path.is_file()))
            except FileNotFoundError:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    source = open_source(data, seed=1, report=lambda _: None)
    inputs = InputSpec(image_size=64, context_length=16)
    rates: list[float] = []
    first = 0.0
    with open_loader(
        source, data, inputs=inputs, tokenizer=tokenizer, seed=1, start=0, total=count * len(source)
    ) as loader:
        seen, since = 0, begun
        while (batch := next(iter(loader), None)) is not None:
            seen += len(batch.keys)
            first = first or time.perf_counter() - begun
            if seen >= (len(rates) + 1) * len(source):
                now = time.perf_counter()
                rates.append(len(source) / (now - since))
                since = now
    over.set()
    watcher.join()
    return SimpleNamespace(rates=rates, first=first, largest=largest[0])


def main() -> None:
    """Run the ways one after another and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=6000)
    parser.add_argument("--per-shard", type=int, default=250)
    parser.add_argument("--delay", type=float, default=0.03)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    folder = build(arguments.folder, arguments.samples, arguments.per_shard)
    with s3_server(delay=arguments.delay) as environment, tempfile.TemporaryDirectory() as caches:
        os.environ |= environment
        import fsspec

        from openwit.training.config import DataSettings

        url = f"s3://{BUCKET}/made"
        fsspec.filesystem("s3").put(str(folder), f"{BUCKET}/made", recursive=True)
        shard = max(path.stat().st_size for path in folder.rglob("*.tar")) * 1.01
        base = {"batch_size": BATCH, "workers": arguments.workers, "block_shards": 4, "streams": 4}
        bound = int(8 * shard)
        ways: dict[str, tuple[dict[str, Any], int]] = {
            "local": ({"dataset": str(folder)}, 2),
            "copy": ({"dataset": url, "cache": f"{caches}/copy", "remote": "copy"}, 1),
            "blocks": ({"dataset": url, "cache": f"{caches}/blocks", "remote": "blocks", "cache_bytes": bound}, 2),
            "ranges": ({"dataset": url, "remote": "ranges"}, 1),
            "stream": ({"dataset": url, "remote": "stream"}, 1),
        }
        whole = sum(path.stat().st_size for path in folder.rglob("*.tar"))
        print(f"{arguments.samples} samples, {whole / 1e6:.0f} MB, delay {1000 * arguments.delay:.0f} ms")
        for name, (keys, count) in ways.items():
            cache = Path(caches) / "blocks" / "blocks" if name == "blocks" else None
            if cache is not None:
                cache.mkdir(parents=True)
            found = epochs(DataSettings.model_validate({**base, **keys}), count, cache)
            rates = ", ".join(f"{rate:,.0f}" for rate in found.rates)
            bytes_ = f", cache at most {found.largest / 1e6:.0f} of {bound / 1e6:.0f} MB" if cache is not None else ""
            print(f"{name:8} {rates} samples/s by epoch, first batch after {found.first:.2f} s{bytes_}", flush=True)
        shutil.rmtree(caches, ignore_errors=True)


if __name__ == "__main__":
    main()

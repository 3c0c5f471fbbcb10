"""Samples a second from tars to tensors, beside webdataset with open_clip's transform.

    python benchmarks/loader.py --photos ../shared/data/photos.parquet --folder /tmp/loader --samples 4000 --rounds 5

First it writes a dataset of tars as img2dataset writes them (JPEG of 256 px short side at quality 95, caption, JSON;
photographs come again, mirrored or cropped, until there are enough). Then, rounds interleaved and medians taken:

* undecoded: key, image bytes and text of every sample, in one thread; ours in shuffled order, the texts parsed from
  JSON; webdataset's in the order of the tar, without its shuffle.
* processes: ours with `workers_in: processes`.
* decoded: float32 batches (B, 3, 224, 224), normalised, and token ids, with 1 and 2 workers: threads for ours, the
  processes of a DataLoader for webdataset. RandomResizedCrop(0.9 to 1, bicubic) for both. open_clip's transform is
  restated with Pillow and torch step by step, since torchvision does not import beside a CPU build of torch. Both use
  the same tokenizer, faster than open_clip's own.

CPU time is that of the process and its children. Ours runs with `decode: fast` and with `decode: exact`; the PSNR of
the first against the second is printed.
"""

import argparse
import io
import json
import random
import resource
import statistics
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import webdataset as wds

from openwit.training.config import DataSettings
from openwit.training.config.zoo import spec_of
from openwit.training.data.loader import BatchMaker, Loader, training_transform
from openwit.training.data.sampling import BatchPlan
from openwit.training.data.tar_index import TarDataset, local_tars
from openwit.training.data.transforms import MEAN, STD, ResizedCrop, normalise
from openwit.training.tokenizer.bpe import clip_tokenizer

SIZE = 224
BATCH = 128
PER_SHARD = 1000


def build(photos: Path, folder: Path, samples: int) -> list[Path]:
    """Writes the tars, unless they are there."""
    shards = [folder / f"{number:05d}.tar" for number in range(-(-samples // PER_SHARD))]
    if all(shard.is_file() for shard in shards):
        return shards
    folder.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(photos, columns=["jpeg", "title"])
    bodies, titles = table["jpeg"].to_pylist(), table["title"].to_pylist()
    for number, shard in enumerate(shards):
        with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in range(number * PER_SHARD, min(samples, (number + 1) * PER_SHARD)):
                turn, which = divmod(sample, len(bodies))
                image = shrunk(Image.open(io.BytesIO(bodies[which])).convert("RGB"), turn)
                title = titles[which] or "a photo"
                document = {"key": f"{sample:09d}", "caption": title, "url": f"https://example.org/{sample}.jpg"}
                members = {"jpg": image, "txt": title.encode(), "json": json.dumps(document).encode()}
                for suffix, body in members.items():
                    info = tarfile.TarInfo(f"{sample:09d}.{suffix}")
                    info.size = len(body)
                    tar.addfile(info, io.BytesIO(body))
    return shards


def shrunk(image: Image.Image, turn: int) -> bytes:
    """Short side 256; mirrored and cropped by so many pixels at later turns."""
    if turn % 2:
        image = ImageOps.mirror(image)
    image = image.crop((turn, turn, image.width, image.height))
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95)
    return out.getvalue()


class OpenClipTransform:
    """open_clip's `image_transform(224, is_train=True)`: RandomResizedCrop, convert to RGB, ToTensor, Normalize."""

    def __init__(self) -> None:
        self.crop = ResizedCrop((0.9, 1.0), (3 / 4, 4 / 3))
        self.mean = torch.tensor(MEAN)[:, None, None]
        self.std = torch.tensor(STD)[:, None, None]

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """(3, 224, 224) float32."""
        box = self.crop(image.width, image.height, random)  # type: ignore[arg-type]
        image = image.crop((int(box.left), int(box.top), int(box.left + box.width), int(box.top + box.height)))
        image = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB")
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True)).view(SIZE, SIZE, 3)
        tensor = pixels.permute((2, 0, 1)).contiguous().to(torch.float32).div(255)
        return tensor.clone().sub_(self.mean).div_(self.std)


def tokens_of(text: str) -> torch.Tensor:
    """(77,) token ids."""
    ids = torch.zeros(77, dtype=torch.long)
    found = torch.from_numpy(clip_tokenizer()([text], 77)[0])
    ids[: len(found)] = found
    return ids


def peer_decoded(shards: list[Path], workers: int) -> int:
    """webdataset as open_clip puts it together."""
    pipeline = wds.DataPipeline(
        wds.SimpleShardList([str(shard) for shard in shards]),
        wds.detshuffle(bufsize=2000, initial=500, seed=0),
        wds.split_by_worker,
        wds.tarfile_to_samples(),
        wds.shuffle(bufsize=500, initial=100),
        wds.select(lambda sample: "txt" in sample and "jpg" in sample),
        wds.decode("pilrgb"),
        wds.rename(image="jpg;png;jpeg;webp", text="txt"),
        wds.map_dict(image=OpenClipTransform(), text=tokens_of),
        wds.to_tuple("image", "text"),
        wds.batched(BATCH, partial=True),
    )
    return sum(len(images) for images, _ in wds.WebLoader(pipeline, batch_size=None, num_workers=workers))


def peer_undecoded(shards: list[Path], _: int) -> int:
    """webdataset alone, in order."""
    dataset = wds.WebDataset([str(shard) for shard in shards], shardshuffle=False, empty_check=False)
    return sum(len(sample["jpg"]) > 0 for sample in dataset)


def ours_undecoded(dataset: TarDataset) -> Callable[[list[Path], int], int]:
    """Every sample in shuffled order."""

    def run(_: list[Path], __: int) -> int:
        plan = BatchPlan(len(dataset), BATCH, 0, len(dataset))
        steps = range(-(-len(dataset) // BATCH))
        return sum(len(dataset.sample(index).image) > 0 for step in steps for _, index in plan.batch(step))

    return run


def ours_decoded(dataset: TarDataset, decode: str, where: str = "threads") -> Callable[[list[Path], int], int]:
    """The trainer's loader, and the normalisation that the trainer does on the device."""
    settings = data_settings(dataset.folder, decode)
    spec, tokenizer = spec_of("ViT-B/32"), clip_tokenizer()

    def run(_: list[Path], workers: int) -> int:
        plan = BatchPlan(len(dataset), BATCH, 0, len(dataset))
        maker = BatchMaker(
            dataset,
            plan,
            settings=settings,
            inputs=spec.inputs,
            tokenizer=tokenizer,
            seed=0,
            processes=workers if where == "processes" else 0,
        )
        memory = torch.empty(BATCH, 3, SIZE, SIZE)
        count = 0
        with Loader(maker, 0, workers=workers, prefetch=2 * workers) as loader:
            for batch in loader:
                count += len(normalise(batch.images, memory[: len(batch.images)]))
        return count

    return run


def data_settings(folder: Path, decode: str) -> DataSettings:
    """Settings of open_clip's augmentation."""
    raw = {"tars": [str(folder)], "batch_size": BATCH, "crop": "random_resized_crop", "decode": decode}
    return DataSettings.model_validate(raw)


def quality(dataset: TarDataset) -> float:
    """Median PSNR of `decode: fast` against `decode: exact`, dB."""
    fast, exact = (training_transform(data_settings(dataset.folder, how), SIZE) for how in ("fast", "exact"))
    found = []
    for index in range(0, len(dataset), max(1, len(dataset) // 200)):
        image = dataset.sample(index).image
        one, two = (transform(image, random.Random(index)).astype(float) for transform in (fast, exact))
        found.append(10 * np.log10(255**2 / max(1e-9, float(np.mean((one - two) ** 2)))))
    return statistics.median(found)


def timed(
    run: Callable[[list[Path], int], int], shards: list[Path], workers: int, expected: int
) -> tuple[float, float]:
    """Samples per CPU second and per wall second of one pass."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    count = run(shards, workers)
    if count != expected:
        sys.exit(f"{count} samples instead of {expected}")
    return count / (cpu_seconds() - cpu), count / (time.perf_counter() - wall)


def cpu_seconds() -> float:
    """Of this process and of the children that have ended."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where the tars are written")
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shards = build(arguments.photos, arguments.folder, arguments.samples)
    begun = time.process_time()
    dataset = TarDataset(local_tars([str(shard) for shard in shards]))
    print(f"indexed {len(dataset)} samples in {time.process_time() - begun:.2f} CPU s")
    ours_decoded(dataset, "fast")(shards, 1)  # compiles the kernel
    print(f"decode fast against exact: {quality(dataset):.1f} dB")
    runs: list[tuple[str, int, str, Callable[[list[Path], int], int]]] = [
        ("undecoded", 1, "webdataset", peer_undecoded),
        ("undecoded", 1, "ours", ours_undecoded(dataset)),
    ]
    for workers in (1, 2):
        runs += [
            ("decoded", workers, "webdataset", peer_decoded),
            ("decoded", workers, "ours", ours_decoded(dataset, "fast")),
            ("decoded", workers, "ours, exact", ours_decoded(dataset, "exact")),
            ("decoded", workers, "processes", ours_decoded(dataset, "fast", "processes")),
        ]
    figures: dict[tuple[str, int, str], list[tuple[float, float]]] = {}
    for number in range(arguments.rounds):
        for what, workers, who, run in runs:
            figures.setdefault((what, workers, who), []).append(timed(run, shards, workers, len(dataset)))
        print(f"round {number + 1} of {arguments.rounds}", flush=True)
    report(figures)


def report(figures: dict[tuple[str, int, str], list[tuple[float, float]]]) -> None:
    """Prints medians and their ratios to webdataset's."""
    middle: dict[Any, list[float]] = {
        key: [statistics.median(column) for column in zip(*values, strict=True)] for key, values in figures.items()
    }
    print("what        workers  who            samples/CPU s  ratio   samples/s  ratio")
    for (what, workers, who), (cpu, wall) in middle.items():
        peer = middle[what, workers, "webdataset"]
        print(
            f"{what:<11} {workers:>7}  {who:<13} {cpu:>13,.0f} {cpu / peer[0]:>6.2f} "
            f"{wall:>11,.0f} {wall / peer[1]:>6.2f}"
        )


if __name__ == "__main__":
    main()

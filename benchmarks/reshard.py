"""Samples per CPU second that `wit reshard` and `wit merge` copy, against a plain copy with webdataset's TarWriter.

    python benchmarks/reshard.py --photos ../shared/data/photos.parquet --samples 2000 --rounds 3

The plain copy reads the tars of the dataset with webdataset and writes each sample to tars of the new size: the bytes
alone. Ours reads metadata and index, copies the pictures by their place, writes the JSON anew, and also metadata,
index, statistics, checksums and manifest; the stages run in this process. The rounds interleave; figures are medians.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.serial_engine import SerialEngine

from openwit.pipeline.execution.stage import Job
from openwit.pipeline.existing import Wanted
from openwit.pipeline.existing_run import run_existing
from openwit.schemas.manifest import DatasetManifest


def make_dataset(photos: Path, samples: int, folder: Path) -> Path:
    """Build a dataset of tars of photos, of which each is there as often as needed, with a text of its own."""
    bodies = pq.read_table(photos, columns=["jpeg"]).column("jpeg").to_pylist()
    rows = [{"image": bodies[n % len(bodies)], "text": f"photo number {n}"} for n in range(samples)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "photos.parquet")
    run(["photos.parquet"], folder, "dataset", {"samples": 500})
    return folder / "dataset"


def run(inputs: list[str], folder: Path, out: str, files: dict[str, object]) -> None:
    """Run `wit reshard`, or `wit merge` of several inputs."""
    wanted = Wanted("merge" if len(inputs) > 1 else "reshard", duplicates="keep", files=files)
    run_existing([str(folder / name) for name in inputs], wanted, folder / out, Job(SerialEngine()))


def plain_copy(dataset: Path, out: Path, per_shard: int) -> None:
    """Copy the samples of a dataset to tars of another size with webdataset."""
    out.mkdir()
    tars = [str(dataset / shard.tar.path) for shard in DatasetManifest.load(dataset).shards]
    reader = webdataset.WebDataset(tars, shardshuffle=False)
    with webdataset.ShardWriter(str(out / "%05d.tar"), maxcount=per_shard, verbose=0) as writer:
        for sample in reader:
            writer.write({name: value for name, value in sample.items() if name not in ("__url__", "__local_path__")})


def cpu_seconds(work: Callable[[], None]) -> float:
    """Return the CPU seconds of this process that some work takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if not given.photos.is_file():
        sys.exit(f"{given.photos} does not exist: name a Parquet file with a column 'jpeg' by --photos")
    times: dict[str, list[float]] = {"webdataset": [], "reshard": [], "reshard, shuffled": [], "merge of two": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = make_dataset(given.photos, given.samples, folder)
        run(["dataset"], folder, "other", {"samples": 500})
        for n in range(given.rounds):
            works: dict[str, Callable[[], None]] = {
                "webdataset": lambda n=n: plain_copy(dataset, folder / f"plain-{n}", 300),
                "reshard": lambda n=n: run(["dataset"], folder, f"reshard-{n}", {"samples": 300}),
                "reshard, shuffled": lambda n=n: run(
                    ["dataset"], folder, f"shuffled-{n}", {"samples": 300, "order": "shuffled"}
                ),
                "merge of two": lambda n=n: run(["dataset", "other"], folder, f"merge-{n}", {"samples": 300}),
            }
            for label, work in works.items():
                times[label].append(cpu_seconds(work))
    for label, found in times.items():
        samples = given.samples * (2 if label.startswith("merge") else 1)
        print(f"{label:<18} {samples / statistics.median(found):>8,.0f} samples a CPU second")


if __name__ == "__main__":
    main()

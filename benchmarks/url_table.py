"""From a table of URLs to shards: `wit fetch --format` against img2dataset's `download`, the same server and options.

    python benchmarks/url_table.py --photos photos.parquet --peer-python venv/bin/python --rounds 3

Each run is a process of its own from the first import to the last file, for each format, into an empty folder: what a
user waits for. Both have one process, 32 connections, 256 px, `keep_ratio`, JPEG at quality 95, no EXIF, a CSV of URLs
with captions on loopback hosts, one for all photos, and keep two columns. img2dataset's progress logger, a process of
its own, is left out, and so is its pool: its downloader runs in the process that is measured. Ours reads robots.txt,
writes checksums, perceptual hashes, an index, a manifest and the log, which img2dataset does not. Wall and CPU seconds
(children too) are medians of interleaved rounds.
"""

import argparse
import csv
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fetch import CONNECTIONS, ROOT, SIZE, serve

FORMATS = ("webdataset", "files", "parquet")
PEER = """
import importlib, os, signal, sys, types
try:
    import ray
    ray.remote
except (ImportError, AttributeError):  # it is imported, and not used here
    sys.modules["ray"] = types.SimpleNamespace(remote=lambda f=None, **_: f)
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
module = importlib.import_module("img2dataset.main")
module.LoggerProcess = lambda *_: types.SimpleNamespace(start=lambda: None, join=lambda: None, terminate=lambda: None)
module.multiprocessing_distributor = lambda _count, worker, reader, *_: [worker(shard) for shard in reader]
table, out, form, connections, size = sys.argv[1:]
module.download(
    table, image_size=int(size), output_folder=out, thread_count=int(connections), resize_mode="keep_ratio",
    resize_only_if_bigger=True, output_format=form, input_format="csv", url_col="link", caption_col="alt",
    extract_exif=False, save_additional_columns=["author", "score"], timeout=30, retries=1,
)
"""


def ours(table: Path, out: Path, form: str) -> list[str]:
    """The command of ours."""
    sets = ("download.allow_networks=[127.0.0.0/8]", f"image.size={SIZE}")
    return [
        sys.executable, "-m", "openwit.pipeline", "fetch", str(table), "--out", str(out), "--format", form,
        "--url-col", "link", "--caption-col", "alt", "--keep-col", "author", "--keep-col", "score",
        "--threads", str(CONNECTIONS), "--workers", "1", *(word for each in sets for word in ("--set", each)),
    ]  # fmt: skip


def theirs(python: str, table: Path, out: Path, form: str) -> list[str]:
    """The command of img2dataset."""
    return [python, "-W", "ignore", "-c", PEER, str(table), str(out), form, str(CONNECTIONS), str(SIZE)]


def seconds(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command.

    Raises:
        SystemExit: it failed.
    """
    before, started = os.times(), time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")} if command[0] == sys.executable else None
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command[:6])}: {done.stderr[-600:]}")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - started, used


def pictures_in(out: Path) -> int:
    """Count the samples of a dataset of either, by the tables of its shards."""
    import pyarrow.parquet as pq

    tables = [path for path in out.rglob("*.parquet") if path.stem.isdecimal()]
    return sum(pq.read_table(path, columns=["status"])["status"].to_pylist().count("success") for path in tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="Parquet file with a column `jpeg`")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has img2dataset")
    parser.add_argument("--no-peer", action="store_true", help="leave img2dataset out")
    parser.add_argument("--limit", type=int, default=400, help="photos taken")
    parser.add_argument("--urls", type=int, default=2000, help="rows of the table")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    arguments = parser.parse_args()
    from resize import load_photos

    photos = load_photos(arguments.photos, arguments.limit, 1)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there, photos), daemon=True)
    server.start()
    port = here.recv()
    try:
        with tempfile.TemporaryDirectory() as folder:
            _run(Path(folder), port, len(photos), arguments)
    finally:
        server.kill()
        server.join()


def _run(folder: Path, port: int, photos: int, arguments: argparse.Namespace) -> None:
    table = folder / "urls.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["link", "alt", "author", "score"])
        for n in range(arguments.urls):
            link = f"http://127.0.1.{1 + n // photos}:{port}/{n % photos}"
            writer.writerow([link, f"photo {n}", f"author {n % 7}", n / 2])
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    print(f"{arguments.urls:,} URLs, {arguments.rounds} rounds, {machine}")
    print(f"{'format':<12}{'':<14}{'samples':>9}{'wall s':>9}{'CPU s':>9}")
    for form in arguments.formats:
        found: dict[str, list[tuple[float, float]]] = {}
        counts: dict[str, int] = {}
        for number in range(arguments.rounds):
            commands = {"ours": ours(table, folder / f"ours-{form}-{number}", form)}
            if not arguments.no_peer:
                out = folder / f"img2dataset-{form}-{number}"
                commands["img2dataset"] = theirs(arguments.peer_python, table, out, form)
            for name, command in commands.items():
                found.setdefault(name, []).append(seconds(command))
                counts[name] = pictures_in(folder / f"{name}-{form}-{number}")
        for name, runs in found.items():
            wall, used = (statistics.median(each) for each in zip(*runs, strict=True))
            print(f"{form:<12}{name:<14}{counts[name]:>9,}{wall:>9.1f}{used:>9.1f}", flush=True)


if __name__ == "__main__":
    main()

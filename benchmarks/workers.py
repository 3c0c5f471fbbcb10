"""Each stage with one worker on one core, and with two workers: wall time, CPU time, memory, and the ratio.

    python benchmarks/workers.py --queries ../shared/data/queries_500k.tsv.gz \\
        --captions ../shared/data/captions.parquet --photos ../shared/data/photos.parquet

One worker runs under `taskset -c 0`, since one worker of fetch decodes on all cores, and pyarrow's threads use all of
them. Each run is the command that a user would type, a process of its own, on a new folder; outputs of both are
compared by their manifests. Inputs are made first, with a seed:

candidates, select: real captions drawn again, in a Parquet table (benchmarks/selection.py), all queries of the list.
fetch: real photos from a server on loopback addresses, on 40 hosts, which answers at once (benchmarks/fetch.py).
dedup: made-up images, random hashes, 5 % near duplicates, 1 % one placeholder.
shard: made-up images with random bytes, deduplicated before.
build: a recipe of all stages on a small table of URLs; where workers cost more than they bring.

Columns: wall time of the command with its start; CPU time of all its processes; `serial + 1 worker`: CPU time of the
command itself and of its busiest worker, the wall time that a machine with a free core a worker could reach;
`memory`: the largest sum of proportional set sizes (a page that processes share counts once); `largest`: the largest
resident size of one process. On a machine that does other work, shown by its load, only CPU times mean something.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

STAGES = ("candidates", "select", "fetch", "dedup", "shard", "build")
_LOOPBACK = "download.allow_networks=[127.0.0.0/8]"
_POLL_S = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux


class Cost(NamedTuple):
    """What a command took: seconds, seconds, seconds, bytes, bytes."""

    wall: float
    cpu: float
    path: float
    memory: int
    largest: int


def run_wit(arguments: list[str], core: int | None) -> Cost:
    """Run a command of `wit`, on one core or all, and watch its processes."""
    command = [sys.executable, "-m", "openwit.pipeline", *arguments]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
    with tempfile.TemporaryFile("w+") as output:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        cpu: dict[int, float] = {}
        memory = largest = 0
        while process.poll() is None:
            tree = _tree(process.pid)
            sizes = [_memory(pid) for pid in tree]
            memory = max(memory, sum(pss for pss, _ in sizes))
            largest = max([largest, *(rss for _, rss in sizes)])
            for pid in tree:
                cpu[pid] = max(cpu.get(pid, 0.0), _cpu(pid))
            time.sleep(_POLL_S)
        wall = time.monotonic() - start
        if process.returncode:
            output.seek(0)
            sys.exit(f"wit {arguments[0]} ended with exit code {process.returncode}\n{output.read()}")
    own = cpu.pop(process.pid)
    return Cost(wall, own + sum(cpu.values()), own + max(cpu.values(), default=0.0), memory, largest)


def _tree(pid: int) -> list[int]:
    found = [pid]
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += _tree(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> tuple[int, int]:
    """Return proportional and resident size in bytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0, 0
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return sizes.get("Pss:", 0), sizes.get("Rss:", 0)


def compare(name: str, what: str, command: Callable[[Path], list[str]], folder: Path) -> None:
    """Run a stage both ways, print both, and check that they made the same."""
    made, costs = {}, {}
    for workers in (1, 2):
        out = folder / f"{name}-{workers}"
        arguments = [*command(out), "--workers", str(workers)]
        costs[workers] = run_wit(arguments, min(os.sched_getaffinity(0)) if workers == 1 else None)
        manifest = out / {"build": "dataset/manifest.json", "shard": "manifest.json"}.get(name, ".stage/manifest.json")
        made[workers] = manifest.read_text() if manifest.exists() else None
    for workers, cost in costs.items():
        print(
            f"{name if workers == 1 else '':<11}{workers:>8}{cost.wall:>9.1f}{cost.cpu:>9.1f}{cost.path:>19.1f}"
            f"{cost.memory / 2**20:>10.0f}{cost.largest / 2**20:>10.0f}{os.getloadavg()[0]:>7.1f}",
            flush=True,
        )
    one, two = costs[1], costs[2]
    same = "the same bytes" if made[1] == made[2] and made[1] is not None else "OTHER BYTES"
    print(f"{'':<11}ratio {one.wall / two.wall:.2f}, of CPU paths {one.path / two.path:.2f}, {same}; {what}")


def candidates(folder: Path, arguments: argparse.Namespace) -> None:
    """A table of captions."""
    from selection import write_table

    table = folder / "table.parquet"
    write_table(arguments.captions, table, arguments.rows)
    compare("candidates", f"{arguments.rows:,} pairs", lambda out: _candidates(table, out), folder)


def _candidates(table: Path, out: Path) -> list[str]:
    return ["candidates", "--input", str(table), "--out", str(out)]


def select(folder: Path, arguments: argparse.Namespace) -> None:
    """The captions with all queries."""
    from selection import write_queries, write_table

    queries, pool = folder / "queries", folder / "candidates-2"
    write_queries(arguments.queries, folder / "queries.txt")
    run_wit(["queries", "--table", str(folder / "queries.txt"), "--out", str(queries)], None)
    if not pool.exists():
        write_table(arguments.captions, folder / "table.parquet", arguments.rows)
        run_wit(_candidates(folder / "table.parquet", pool), None)
    inputs = ["select", "--candidates", str(pool), "--queries", str(queries)]
    compare("select", f"{arguments.rows:,} pairs", lambda out: [*inputs, "--out", str(out)], folder)


def fetch(folder: Path, arguments: argparse.Namespace) -> None:
    """Photos from the loopback server."""
    from worker_inputs import write_selected

    selected = folder / "selected"
    write_selected(selected, arguments.urls, arguments.port)
    inputs = ["fetch", "--input", str(selected), "--set", _LOOPBACK]
    compare("fetch", f"{arguments.urls:,} photos", lambda out: [*inputs, "--out", str(out)], folder)


def dedup(folder: Path, arguments: argparse.Namespace) -> None:
    """Made-up images."""
    from worker_inputs import write_images

    write_images(folder / "images", arguments.images)
    inputs = ["dedup", "--input", str(folder / "images")]
    compare("dedup", f"{arguments.images:,} images", lambda out: [*inputs, "--out", str(out)], folder)


def shard(folder: Path, arguments: argparse.Namespace) -> None:
    """Made-up images with bytes."""
    from worker_inputs import write_images

    images, survivors = folder / "pictures", folder / "survivors"
    write_images(images, arguments.samples, image_bytes=8000)
    run_wit(["dedup", "--input", str(images), "--out", str(survivors)], None)
    inputs = ["shard", "--input", str(survivors), "--name", "made", "--set", "bytes=20MB"]
    compare("shard", f"{arguments.samples:,} images", lambda out: [*inputs, "--out", str(out)], folder)


def build(folder: Path, arguments: argparse.Namespace) -> None:
    """A small recipe."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(f"http://127.0.1.{1 + n % 20}:{arguments.port}/{n}", f"a small photo, number {n}") for n in range(200)]
    urls, texts = zip(*rows, strict=True)
    pq.write_table(pa.table({"url": urls, "text": texts}), folder / "small.parquet")
    (folder / "small.txt").write_text("photo\nsmall photo\n")
    recipe = {
        "name": "small",
        "steps": [
            {"queries": {"tables": [str(folder / "small.txt")]}},
            {"candidates": {"inputs": [str(folder / "small.parquet")]}},
            {"select": {}},
            {"fetch": {"download": {"allow_networks": ["127.0.0.0/8"]}}},
            {"dedup": {}},
            {"shard": {}},
            {"card": {}},
        ],
    }
    (folder / "small.json").write_text(json.dumps(recipe))
    compare("build", "200 photos", lambda out: ["build", str(folder / "small.json"), "--workdir", str(out)], folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=[], metavar="STAGE", help=f"of {', '.join(STAGES)}; all if none")
    parser.add_argument("--queries", type=Path, help="queries_500k.tsv.gz, for select")
    parser.add_argument("--captions", type=Path, help="Parquet file with a column text, for candidates and select")
    parser.add_argument("--photos", type=Path, help="Parquet file with a column jpeg, for fetch and build")
    parser.add_argument("--rows", type=int, default=600_000, help="pairs of candidates and select")
    parser.add_argument("--urls", type=int, default=3_000, help="of fetch")
    parser.add_argument("--images", type=int, default=1_000_000, help="of dedup")
    parser.add_argument("--samples", type=int, default=40_000, help="of shard")
    parser.add_argument("--folder", type=Path, help="keep the files here instead of a temporary folder")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.stages) - set(STAGES))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    chosen = [stage for stage in STAGES if not arguments.stages or stage in arguments.stages]
    needed = {"candidates": ["captions"], "select": ["captions", "queries"], "fetch": ["photos"], "build": ["photos"]}
    for option in sorted({option for stage in chosen for option in needed.get(stage, [])}):
        path = getattr(arguments, option)
        if path is None or not path.is_file():
            parser.error(f"{option}: name a file by --{option}")
    if sys.platform.startswith("linux"):
        # Workers whose parent has ended are waited for here, so that none is left over.
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    server = None
    if arguments.photos is not None:
        from fetch import serve
        from resize import load_photos

        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        server = context.Process(target=serve, args=(there, load_photos(arguments.photos, 400, 1)), daemon=True)
        server.start()
        arguments.port = here.recv()
    print(f"load before: {', '.join(f'{load:.1f}' for load in os.getloadavg())}; {os.cpu_count()} cores")
    print(
        f"{'stage':<11}{'workers':>8}{'wall s':>9}{'CPU s':>9}{'serial + 1 worker':>19}"
        f"{'MiB':>10}{'largest':>10}{'load':>7}"
    )
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (arguments.folder or Path(temporary)).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            for stage in chosen:
                globals()[stage](folder, arguments)
    finally:
        if server is not None:
            os.kill(server.pid or 0, signal.SIGKILL)
            server.join()


if __name__ == "__main__":
    main()

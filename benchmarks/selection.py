"""Selection at scale: from a table of (url, text) to the selected pairs; and its shuffle against peers.

    python benchmarks/selection.py scale --queries ../shared/data/queries_500k.tsv.gz \\
        --captions ../shared/data/captions.parquet --rows 1000000
    python benchmarks/selection.py peers --queries ... --captions ... --rows 300000

Captions are real ones drawn again with a seed, every other one with two of its words swapped; URLs repeat now and
then, so that there is something to deduplicate. `scale` runs the commands a user would type, each as a process of
its own, and prints wall time, CPU time and peak memory of the whole process tree. `peers` takes the matches of such a
run and does the same deduplication and counting three ways: as the select stage does it (batches of keys), as Beam's
guide would write it (a row an element), and in duckdb; the counts must be equal.
"""

import argparse
import gzip
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def write_queries(source: Path, target: Path) -> None:
    """The list as a text file of a query a line."""
    with gzip.open(source, "rt", encoding="utf-8") as file:
        next(file)
        target.write_text("".join(line.partition("\t")[0].rstrip("\n") + "\n" for line in file), encoding="utf-8")


def write_table(captions: Path, target: Path, rows: int, seed: int = 0) -> None:
    """A table of (url, text), written in row groups so that memory does not grow with it."""
    texts = [text for text in pq.read_table(captions).column("text").to_pylist() if text]
    chance = random.Random(seed)
    schema = pa.schema([("url", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(target, schema) as writer:
        for start in range(0, rows, 100_000):
            urls, chosen = [], []
            for number in range(start, min(start + 100_000, rows)):
                text = texts[chance.randrange(len(texts))]
                words = text.split(" ")
                if number % 2 and len(words) > 1:
                    first, second = chance.sample(range(len(words)), 2)
                    words[first], words[second] = words[second], words[first]
                    text = " ".join(words)
                # one pair in fifty stands on an earlier image's URL, one in two hundred is an earlier pair again
                image = number if number % 50 else chance.randrange(number + 1)
                if urls and number % 200 == 7:
                    urls.append(urls[-1])
                    chosen.append(chosen[-1])
                    continue
                urls.append(f"https://host{image % 9973}.example.org/images/{image}.jpg")
                chosen.append(text)
            writer.write_table(pa.table([urls, chosen], schema=schema))


class PeakMemory(threading.Thread):
    """Samples the resident memory of a process and all below it; shared pages count once a process."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(0.1):
            self.peak = max(self.peak, sum(_rss(pid) for pid in _tree(self.pid)))

    def stop(self) -> int:
        """Bytes."""
        self._stop_asked.set()
        self.join()
        return self.peak


def _tree(pid: int) -> list[int]:
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _tree(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def _rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def run_command(label: str, arguments: list[str]) -> None:
    """Runs `wit` and prints what it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("wit")), *arguments], stdout=subprocess.PIPE, text=True
    )
    memory = PeakMemory(process.pid)
    memory.start()
    output, _ = process.communicate()
    wall, peak = time.monotonic() - start, memory.stop()
    if process.returncode:
        print(output)
        raise SystemExit(f"{label} ended with exit code {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{label:24s} wall {wall:7.1f} s   CPU {cpu:7.1f} s   peak memory {peak / 2**20:8.0f} MiB", flush=True)


def scale(arguments: argparse.Namespace, folder: Path) -> None:
    """The three commands one after the other."""
    workers = ["--workers", str(arguments.workers)]
    write_queries(arguments.queries, folder / "queries.txt")
    write_table(arguments.captions, folder / "table.parquet", arguments.rows)
    print(f"{arguments.rows:,} rows, {arguments.workers} worker processes")
    run_command("queries", ["queries", "--table", str(folder / "queries.txt"), "--out", str(folder / "queries")])
    source = ["candidates", "--input", str(folder / "table.parquet"), "--out", str(folder / "candidates")]
    run_command("candidates", [*source, *workers])
    select = ["select", "--candidates", str(folder / "candidates"), "--queries", str(folder / "queries")]
    run_command("select", [*select, "--out", str(folder / "selected"), "--cap", str(arguments.cap), *workers])
    again = [*select, "--out", str(folder / "again"), "--cap", str(arguments.cap // 2), *workers]
    run_command("select, --reuse", [*again, "--reuse", str(folder / "selected")])


def ours(folder: Path, matches: list[Path], queries: int) -> Counter[int]:
    """The select stage's second half: keys in batches, winners by sorting, counts as vectors."""

    from openwit.pipeline.execution.jobs import Task
    from openwit.pipeline.execution.runners import make_engine
    from openwit.pipeline.execution.stage import Job
    from openwit.pipeline.stages.select import match as select_match
    from openwit.pipeline.stages.select.settings import SelectSettings

    work = folder / "ours"
    shutil.rmtree(work, ignore_errors=True)
    tasks = [Task(n, path.stem, select_match.MatchInput("", "", str(path))) for n, path in enumerate(matches)]
    rows = sum(pq.read_metadata(path).num_rows for path in matches)
    job = Job(make_engine("local", 1))
    pool = select_match.match_and_count(job, SelectSettings(), work, tasks, Path(), queries, rows)
    return Counter({q: int(n) for q, n in enumerate(pool) if n})


def row_by_row(folder: Path, matches: list[Path], queries: int) -> Counter[int]:  # noqa: ARG001
    """A row an element: group by pair, take the first, count its queries."""
    import apache_beam as beam

    from openwit.pipeline.execution.beam_engine import BeamEngine

    target = folder / "rows"

    def read(path: str):  # type: ignore[no-untyped-def]
        for row in pq.read_table(path, columns=["pair_id", "query_ids"]).to_pylist():
            if row["query_ids"]:
                yield row["pair_id"], row["query_ids"]

    def construct(pipeline: beam.Pipeline) -> None:
        _ = (
            pipeline
            | beam.Create([str(path) for path in matches], reshuffle=False)
            | beam.Reshuffle()
            | "Read rows" >> beam.FlatMap(read)
            | "Group pairs" >> beam.GroupByKey()
            | "Take one" >> beam.FlatMap(lambda pair: [(query, 1) for query in next(iter(pair[1]))])
            | "Count" >> beam.CombinePerKey(sum)
            | "Write" >> beam.io.WriteToText(str(target), shard_name_template="", coder=_PairCoder())
        )

    with beam.Pipeline(options=BeamEngine().options()) as pipeline:
        construct(pipeline)
    return Counter({int(q): int(n) for q, n in (line.split() for line in target.read_text().splitlines())})


class _PairCoder:
    """A (query, count) a line."""

    def __new__(cls):  # type: ignore[no-untyped-def]
        from apache_beam.coders import Coder

        class Lines(Coder):
            def encode(self, value: tuple[int, int]) -> bytes:
                return f"{value[0]} {value[1]}".encode()

            def is_deterministic(self) -> bool:
                return True

        return Lines()


def by_duckdb(folder: Path, matches: list[Path], queries: int) -> Counter[int]:  # noqa: ARG001
    """The same as one SQL statement on the same files, on as many threads as ours has."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads TO 1")
    files = [str(path) for path in matches]
    rows = connection.execute(
        "SELECT query, count(*) FROM (SELECT unnest(any_value(query_ids)) AS query FROM read_parquet(?) "
        "WHERE len(query_ids) > 0 GROUP BY pair_id) GROUP BY query",
        [files],
    ).fetchall()
    return Counter(dict(rows))


def peers(arguments: argparse.Namespace, folder: Path) -> None:
    """The three ways, interleaved; medians of CPU seconds."""
    scale(arguments, folder)
    matches = sorted((folder / "selected" / "matches").glob("*.parquet"))
    queries = pq.read_metadata(folder / "queries" / "queries.parquet").num_rows
    ways: dict[str, Callable[[Path, list[Path], int], Counter[int]]] = {
        "ours": ours, "Beam, row by row": row_by_row, "duckdb": by_duckdb,
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        results = {}
        for name, work in ways.items():
            start = time.process_time()
            results[name] = work(folder, matches, queries)
            seconds[name].append(time.process_time() - start)
        assert results["ours"] == results["Beam, row by row"] == results["duckdb"]
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    print(f"\ndeduplicate and count {arguments.rows:,} rows, CPU seconds")
    for name, median in medians.items():
        print(f"  {name:20s} {median:7.2f}   {median / medians['ours']:5.1f} x ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("scale", "peers"))
    parser.add_argument("--queries", type=Path, required=True, help="queries_500k.tsv.gz")
    parser.add_argument("--captions", type=Path, required=True, help="Parquet with a column text")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--cap", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the files here instead of a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        {"scale": scale, "peers": peers}[arguments.what](arguments, folder)


if __name__ == "__main__":
    main()

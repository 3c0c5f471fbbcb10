"""Fetch as a stream: when 90 % and all of a task's images are there, although every chunk has a slow end.

    python benchmarks/slow_ends.py --photos photos.parquet

300 hosts of ten URLs in one task of three chunks; one host in fifty asks for a second between two requests
(`Crawl-delay` in its robots.txt). Chunk after chunk, each ends with its share of the slow hosts; as a stream the next
chunks begin meanwhile. `--open-chunks 1` runs them one after another. The server is that of `fetch.py`; its photos are
shrunk to 64 px, so that the processor is not what is waited for.
"""

import argparse
import io
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from fetch import serve
from PIL import Image
from resize import load_photos

from openwit.pipeline.common.host_buckets import host_bucket
from openwit.pipeline.execution.jobs import Task, TaskStats
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.candidates.pair import pair_id
from openwit.pipeline.stages.fetch.candidate_inputs import CandidateInputs
from openwit.pipeline.stages.fetch.grouping import group_pairs, plan_fetch
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.fetch.task import FetchTask
from openwit.schemas.tables.candidates import SELECTED

HOSTS, URLS_A_HOST, CHUNKS, SLOW = 300, 10, 3, 50


class Times(TaskStats):
    """Note when how many URLs had ended."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[float, int]] = []

    def tick(self, rows: int, fraction: float | None = None, *, reasons: object = None) -> None:  # noqa: ARG002
        """See the base class."""
        self.times.append((time.perf_counter(), rows))


def selected(path: Path, port: int) -> None:
    """Write the pairs of all hosts."""
    rows = []
    for host in range(HOSTS):
        kind = 5 if host % SLOW == 0 else 1
        for n in range(URLS_A_HOST):
            url = f"http://127.0.{kind + 10 * (host // 250)}.{host % 250}:{port}/{host * URLS_A_HOST + n}"
            row = dict.fromkeys(SELECTED.arrow.names)
            row |= {"pair_id": pair_id(url, "a"), "url": url, "text": "a", "text_source": "alt", "image_source": "src"}
            row |= {"split": "train", "archive": "a", "record_offset": 0, "has_bytes": False, "query_ids": [0]}
            row |= {"drawn_by": [0], "priority": 0.5, "host_bucket": host_bucket(url, False, "", 0)}
            rows.append(row)
    rows.sort(key=lambda row: row["host_bucket"])
    SELECTED.write(path, pa.Table.from_pylist(rows, schema=SELECTED.arrow))


def _shrunk(photo: bytes) -> bytes:
    image, out = Image.open(io.BytesIO(photo)).convert("RGB"), io.BytesIO()
    image.thumbnail((96, 64))
    image.save(out, "JPEG")
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="Parquet file with a column `jpeg`")
    parser.add_argument("--limit", type=int, default=100, help="photos taken")
    parser.add_argument("--open-chunks", type=int, default=8, help="chunks fetched at the same time")
    arguments = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe()
    photos = [_shrunk(photo) for photo in load_photos(arguments.photos, arguments.limit, 1)]
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there, photos), daemon=True)
    server.start()
    port = here.recv()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        selected(folder / "selected.parquet", port)
        pairs = HOSTS * URLS_A_HOST
        settings = FetchSettings(
            download={"allow_networks": ("127.0.0.0/8",)},  # type: ignore[arg-type]
            task=pairs,
            chunk=pairs // CHUNKS,
            open_chunks=arguments.open_chunks,
        )
        job = Job(make_engine("local", 1))
        sizes = {"task": settings.task, "chunk": settings.chunk}
        plan, first_round = plan_fetch(job, folder / "grouped", [folder / "selected.parquet"], **sizes)
        work = FetchTask(settings, group_pairs(job, folder / "grouped", plan, first_round), CandidateInputs())
        work.setup()
        started, times = time.perf_counter(), Times()
        work.run(Task(0, "00000", plan.tasks[0]), folder / "fetch", times)
        took = time.perf_counter() - started
    server.kill()
    most = next(at for at, rows in times.times if rows >= 0.9 * pairs) - started
    ended = times.times[-1][0] - started
    print(f"{pairs} URLs, {CHUNKS} chunks, {arguments.open_chunks} at the same time")
    print(f"90 % after {most:.1f} s, all after {ended:.1f} s, written after {took:.1f} s")
    sys.exit(0)


if __name__ == "__main__":
    main()

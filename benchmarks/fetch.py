"""Fetch and resize to 256 px: our engine against img2dataset, the same server, the same images.

    python benchmarks/fetch.py --photos photos.parquet --peer-python venv/bin/python --rounds 5

`--peer-python` is the interpreter of an environment with img2dataset, where it is not installed beside us. Each
client is a process of its own, the server another. img2dataset runs its own `Downloader` on a shard with its own
`Resizer` (area average, JPEG at quality 95, sha256, no EXIF, no robots.txt) and hands the results to a writer that
forgets them. Ours runs the stage's engine and its threads with the default settings (robots.txt and opt-outs obeyed,
sha256, perceptual hash), and forgets the results too. Both have 32 connections. The clients run on one core and the
server on the others, so that CPU time does not depend on what shares a core.

`even`: images per CPU second (`os.times` of the client, threads included) of a quick server; medians of interleaved
rounds. PSNR is against Pillow's Lanczos filter on the full decode, not encoded: means over the images both shrank.
`big host`: one host that answers after 0.2 s; ours with the default `per_host`, img2dataset with all its connections.
`bad web`: ten URLs a host; of ten hosts one refuses connections, one takes them and says nothing, one drips. Images
per wall second until the last URL has ended, each client with its own default limits.
"""

import argparse
import asyncio
import io
import json
import math
import multiprocessing
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONNECTIONS = 32
SIZE = 256
QUALITY = 95
URLS_A_HOST = 10
DRIP_BYTES, DRIP_SECONDS = 500, 30
LATENCY_S = 0.2
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
CRAWL_DELAY = b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\nUser-agent: *\nCrawl-delay: 1\n"

Run = dict[str, Any]


# The server


class _Photos(asyncio.Protocol):
    """GET /NUMBER is a photo; /robots.txt is 404.

    127.0.2.x is silent, 127.0.3.x drips, 127.0.4.x answers after 0.2 s, 127.0.5.x has a Crawl-delay of 1 s.
    """

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._kind = int(transport.get_extra_info("sockname")[0].split(".")[2]) % 10

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            name = head.split(b" ", 2)[1][1:]
            if self._kind == 2:
                return
            if not name.isdigit():
                self._transport.write(CRAWL_DELAY if self._kind == 5 else NOT_FOUND)
            elif self._kind == 4:
                closes = b"connection: close" in head.lower()
                answer = self._answers[int(name) % len(self._answers)]
                asyncio.get_running_loop().call_later(LATENCY_S, self._late, answer, closes)
                return
            elif self._kind == 3:
                self._drip(self._answers[int(name) % len(self._answers)], DRIP_SECONDS)
                return
            else:
                self._transport.write(self._answers[int(name) % len(self._answers)])
            if b"connection: close" in head.lower():
                self._transport.close()

    def _late(self, answer: bytes, closes: bool) -> None:
        self._transport.write(answer)
        if closes:
            self._transport.close()

    def _drip(self, answer: bytes, left: int) -> None:
        if not left or self._transport.is_closing():
            self._transport.close()
            return
        self._transport.write(answer[:DRIP_BYTES])
        asyncio.get_running_loop().call_later(1.0, self._drip, answer[DRIP_BYTES:], left - 1)


def serve(pipe: Connection, photos: list[bytes]) -> None:
    """Serves on every loopback address until the parent closes its end of the pipe."""
    head = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n"
    answers = [head.format(len(photo)).encode() + photo for photo in photos]

    _pin(client=False)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Photos(answers), "0.0.0.0", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, pipe.poll, None)

    asyncio.run(run())


def _pin(client: bool) -> None:
    if not hasattr(os, "sched_setaffinity"):
        return
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {first} if client or not others else set(others))


# The clients: `python benchmarks/fetch.py --client NAME` reads runs as JSON lines and answers each with a line


def client(name: str) -> None:
    """Runs what stands on stdin: {"urls": …, "dump": folder or null}; prints {"cpu", "wall", "ok"}."""
    _pin(client=True)
    run = {
        "native": lambda: _native(per_host=CONNECTIONS),
        "native, default per_host": _native,
        "img2dataset": _img2dataset,
    }[name]()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        order = json.loads(line)
        dump = Path(order["dump"]) if order["dump"] else None
        before, wall = os.times(), time.perf_counter()
        ok = run(order["urls"], dump)
        after, wall = os.times(), time.perf_counter() - wall
        cpu = after.user + after.system - before.user - before.system
        print(json.dumps({"cpu": cpu, "wall": wall, "ok": ok}), file=answers)


def _native(**download: int) -> Any:
    sys.path.insert(0, str(ROOT))
    from openwit.pipeline.download.downloader import DownloadSettings
    from openwit.pipeline.images.process import ImageSettings
    from openwit.pipeline.stages.fetch.chunk import OpenChunk
    from openwit.pipeline.stages.fetch.engine import make_engine
    from openwit.pipeline.stages.fetch.settings import FetchSettings
    from openwit.pipeline.stages.fetch.stream import Batch, ChunkStream
    from openwit.pipeline.stages.fetch.task import FetchTask

    class Forget:
        """In the place of the images of a chunk."""

        def __init__(self, dump: Path | None) -> None:
            self.dump = dump

        def add(self, url: str, image: Any, _: int) -> None:
            if self.dump is not None:
                (self.dump / f"{url.rpartition('/')[2]}.jpg").write_bytes(image.data)

    chosen = DownloadSettings(concurrency=CONNECTIONS, allow_networks=("127.0.0.0/8",), **download)
    settings = FetchSettings(download=chosen, image=ImageSettings(size=SIZE, quality=QUALITY))
    work = FetchTask(settings, [], None)  # type: ignore[arg-type]
    work.setup()

    def run(urls: list[str], dump: Path | None) -> int:
        chunk = OpenChunk("0", {url: [{"text": "a", "has_bytes": False}] for url in urls}, Forget(dump))  # type: ignore[arg-type]
        stream = ChunkStream(make_engine(settings), work.filters, on_result=lambda *_: None, on_end=lambda _: None)  # type: ignore[arg-type]
        stream.run([Batch(chunk, urls, size=len(urls))])
        return sum(result.reason is None for result in chunk.results.values())

    return run


def _img2dataset() -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import pyarrow as pa
    from img2dataset.downloader import Downloader
    from img2dataset.resizer import Resizer

    def run(urls: list[str], dump: Path | None) -> int:
        written = 0

        class Forget:
            def __init__(self, *_: object) -> None:
                pass

            def write(self, image: bytes | None, _key: str, _caption: str | None, meta: dict[str, Any]) -> None:
                nonlocal written
                written += image is not None
                if dump is not None and image is not None:
                    (dump / f"{meta['url'].rpartition('/')[2]}.jpg").write_bytes(image)

            def close(self) -> None:
                pass

        with tempfile.TemporaryDirectory() as folder:
            shard = f"{folder}/shard.feather"
            with pa.OSFile(shard, "wb") as sink, pa.ipc.new_file(sink, pa.schema([("url", pa.string())])) as writer:
                writer.write_table(pa.table({"url": urls}))
            # The defaults of `img2dataset.download`, EXIF aside.
            resizer = Resizer(SIZE, "keep_ratio", True, encode_quality=QUALITY)
            headers = ["noai", "noimageai", "noindex", "noimageindex"]
            Downloader(
                Forget, resizer, CONNECTIONS, False, False, folder, ["url"], 10, len(urls), 5, "sha256", None, "jpg",
                0, None, headers,
            ).download_shard((0, shard))  # fmt: skip
        return written

    return run


class Client:
    """A client in a process of its own."""

    def __init__(self, python: str, name: str) -> None:
        command = [python, str(Path(__file__).resolve()), "--client", name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, urls: list[str], dump: str | None = None) -> Run:
        """One run, timed by the client itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"urls": urls, "dump": dump}) + "\n")
        self._process.stdin.flush()
        answer: Run = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


# The figures


def psnr(photos: list[bytes], folder: Path) -> dict[str, float]:
    """PSNR in dB of each image of a folder, by file name."""
    import numpy as np
    from PIL import Image

    found = {}
    for path in sorted(folder.glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        full = Image.open(io.BytesIO(photos[int(path.stem) % len(photos)])).convert("RGB")
        if full.size == image.size:
            continue
        reference = np.asarray(full.resize(image.size, Image.Resampling.LANCZOS), np.float64)
        error = np.mean((np.asarray(image, np.float64) - reference) ** 2)
        found[path.name] = 10 * math.log10(255**2 / error)
    return found


def even(clients: dict[str, Client], port: int, photos: list[bytes], rounds: int) -> dict[str, dict[str, float]]:
    """Images per CPU second and PSNR of each client on a quick server of one host."""
    urls = [f"http://127.0.0.1:{port}/{n}" for n in range(len(photos))]
    quality = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, one in clients.items():  # warms up, too
            (Path(folder) / name).mkdir()
            one.run(urls, f"{folder}/{name}")
            quality[name] = psnr(photos, Path(folder) / name)
    common = set.intersection(*(set(q) for q in quality.values()))
    runs: dict[str, list[Run]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name, one in clients.items():
            runs[name].append(one.run(urls))
            assert runs[name][-1]["ok"] == len(urls), (name, runs[name][-1])
    return {
        name: {
            "per_cpu_s": statistics.median(run["ok"] / run["cpu"] for run in runs[name]),
            "per_wall_s": statistics.median(run["ok"] / run["wall"] for run in runs[name]),
            "psnr_db": statistics.mean(quality[name][file] for file in sorted(common)),
        }
        for name in clients
    }


def bad_web(clients: dict[str, Client], port: int, hosts: int) -> dict[str, Run]:
    """One run of each client on a web of which three hosts in ten are dead or slow."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = closed.getsockname()[1]
    urls = []
    for host in range(hosts):
        kind = {0: f"127.0.1.{host}:{dead}", 1: f"127.0.2.{host}:{port}", 2: f"127.0.3.{host}:{port}"}.get(host % 10)
        urls += [f"http://{kind or f'127.0.1.{host}:{port}'}/{host * URLS_A_HOST + n}" for n in range(URLS_A_HOST)]
    random.Random(0).shuffle(urls)
    return {name: {**(run := one.run(urls)), "per_wall_s": run["ok"] / run["wall"]} for name, one in clients.items()}


def big_host(clients: dict[str, Client], port: int, urls: int) -> dict[str, Run]:
    """One run of each client on one host that answers after a while."""
    names = [f"http://127.0.4.1:{port}/{n}" for n in range(urls)]
    return {
        name: {**(run := one.run(names)), "per_wall_s": run["ok"] / run["wall"], "per_cpu_s": run["ok"] / run["cpu"]}
        for name, one in clients.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--photos", type=Path, help="Parquet file with a column `jpeg`")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has img2dataset")
    parser.add_argument("--limit", type=int, default=400, help="photos taken")
    parser.add_argument("--tiles", type=int, default=1, help="mosaics of so many photos a side, as in resize.py")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each client")
    parser.add_argument("--hosts", type=int, default=100, help="hosts of the bad web, at most 250; 0 leaves it out")
    parser.add_argument("--big-host", type=int, default=1500, help="URLs of the big host; 0 leaves it out")
    parser.add_argument("--no-peer", action="store_true", help="leave img2dataset out")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    if arguments.client:
        client(arguments.client)
        return
    if arguments.photos is None:
        sys.exit("name a Parquet file with a column `jpeg` by --photos")
    from resize import load_photos

    photos = load_photos(arguments.photos, arguments.limit, arguments.tiles)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there, photos), daemon=True)
    server.start()
    port = here.recv()
    clients = {} if arguments.no_peer else {"img2dataset": Client(arguments.peer_python, "img2dataset")}
    clients["native"] = Client(sys.executable, "native")
    adaptive = {name: one for name, one in clients.items() if name != "native"}
    adaptive["native, default per_host"] = Client(sys.executable, "native, default per_host")
    try:
        figures = even(clients, port, photos, arguments.rounds) if arguments.rounds else {}
        big = big_host(adaptive, port, arguments.big_host) if arguments.big_host else {}
        bad = bad_web(clients, port, arguments.hosts) if arguments.hosts else {}
    finally:
        for one in {**clients, **adaptive}.values():
            one.close()
        server.kill()
        server.join()
    _print(figures, {"big host": big, "bad web": bad}, photos, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps({"even": figures, "big_host": big, "bad_web": bad}, indent=1) + "\n")


def _print(
    figures: dict[str, Run], webs: dict[str, dict[str, Run]], photos: list[bytes], arguments: argparse.Namespace
) -> None:
    mean = sum(map(len, photos)) / len(photos)
    print(f"{len(photos)} photos, mean {mean:,.0f} bytes, {CONNECTIONS} connections, {arguments.rounds} rounds")
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores\n")
    if figures:
        print(f"{'even':<26}{'per CPU s':>12}{'ratio':>8}{'per wall s':>12}{'ratio':>8}{'PSNR dB':>10}")
        base = next(iter(figures.values()))
        for name, row in figures.items():
            cpu, wall = row["per_cpu_s"], row["per_wall_s"]
            ratios = cpu / base["per_cpu_s"], wall / base["per_wall_s"]
            print(f"{name:<26}{cpu:>12.1f}{ratios[0]:>8.2f}{wall:>12.1f}{ratios[1]:>8.2f}{row['psnr_db']:>10.2f}")
    for title, rows in webs.items():
        if rows:
            print(f"\n{title:<26}{'images':>12}{'wall s':>10}{'per wall s':>12}{'ratio':>8}{'per CPU s':>12}")
        for name, row in rows.items():
            ratio = row["per_wall_s"] / next(iter(rows.values()))["per_wall_s"]
            wall, rate = row["wall"], row["per_wall_s"]
            print(f"{name:<26}{row['ok']:>12}{wall:>10.1f}{rate:>12.1f}{ratio:>8.2f}{row['ok'] / row['cpu']:>12.1f}")


if __name__ == "__main__":
    main()

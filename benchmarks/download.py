"""Responses per CPU second: the native downloader against img2dataset's way, same server, same URLs.

    python benchmarks/download.py --urls 2000 --rounds 5

A child process serves files of 55 kB on average over loopback, so what is compared is the cost of the client
alone: no TLS, names, redirects or slow hosts. img2dataset's way is what its downloader does: one
`urllib.request.urlopen(request, timeout=10)`, a look at X-Robots-Tag and one `read()` for each URL, in a pool of
32 threads fed through a semaphore. It opens a connection for each URL and reads no robots.txt; the native
downloader runs with robots.txt and the opt-out headers on, once with a new connection for each URL (`close`, like
for like) and once keeping them (`keepalive`, its default).
The rounds interleave the three; a figure is the median over the rounds. CPU time is that of the client process,
all its threads included.
"""

import argparse
import asyncio
import io
import json
import multiprocessing
import platform
import random
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.pool import ThreadPool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from openwit.pipeline.download.downloader import Downloader, DownloadSettings

CONNECTIONS = 32
MEAN_BYTES = 55_000
FILES = 200
# The header fields that nginx sends with a static file.
HEAD = """HTTP/1.1 200 OK
Server: nginx/1.22.1
Date: Sat, 22 Nov 2025 17:39:11 GMT
Content-Type: image/jpeg
Content-Length: {length}
Last-Modified: Sat, 22 Nov 2025 17:00:00 GMT
Connection: keep-alive
ETag: "6921ed30-d6d8"
Accept-Ranges: bytes

"""


class _FileProtocol(asyncio.Protocol):
    """Answers GET /NUMBER with a file and /robots.txt with 404; keeps connections open unless asked to close."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            name = head.split(b" ", 2)[1][1:]
            if name.isdigit():
                self._transport.write(self._answers[int(name) % len(self._answers)])
            else:
                self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            if b"connection: close" in head.lower():
                self._transport.close()


def serve(pipe: Connection) -> None:
    """Serves until the parent closes its end of the pipe."""
    rng = random.Random(0)
    answers = []
    for _ in range(FILES):
        body = rng.randbytes(rng.randint(MEAN_BYTES // 2, MEAN_BYTES * 3 // 2))
        answers.append(HEAD.format(length=len(body)).replace("\n", "\r\n").encode() + body)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _FileProtocol(answers), "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, pipe.poll, None)

    asyncio.run(run())


def run_native(urls: list[str], reuse: bool) -> tuple[int, int]:
    """Downloads with `Downloader`; returns responses and bytes."""
    settings = DownloadSettings(
        concurrency=CONNECTIONS, per_host=CONNECTIONS, reuse_connections=reuse, allow_networks=("127.0.0.0/8",)
    )
    count = size = 0
    with Downloader(settings) as downloader:
        for download in downloader.download(urls):
            assert download.body is not None, download
            count, size = count + 1, size + len(download.body)
    return count, size


def run_urllib(urls: list[str]) -> tuple[int, int]:
    """Downloads as img2dataset's downloader does; returns responses and bytes."""
    refused = {"noai", "noimageai", "noindex", "noimageindex"}

    def get(url: str) -> tuple[io.BytesIO | None, str | None]:
        try:
            request = urllib.request.Request(url, data=None, headers={"User-Agent": "Mozilla/5.0 (benchmark)"})
            with urllib.request.urlopen(request, timeout=10) as response:
                for value in response.headers.get_all("X-Robots-Tag", []):
                    if any(rule.strip().lower() in refused for rule in value.split(":", 1)[-1].split(",")):
                        return None, "disallowed"
                return io.BytesIO(response.read()), None
        except Exception as error:
            return None, str(error)

    waiting = threading.Semaphore(2 * CONNECTIONS)

    def lazily() -> Iterator[str]:
        for url in urls:
            waiting.acquire()
            yield url

    count = size = 0
    with ThreadPool(CONNECTIONS) as pool:
        for body, error in pool.imap_unordered(get, lazily()):
            waiting.release()
            assert body is not None, error
            count, size = count + 1, size + len(body.getbuffer())
    return count, size


def measure(run: Callable[[], tuple[int, int]], expected: int) -> tuple[float, float]:
    """(responses per CPU second, responses per wall second) of one run."""
    wall, cpu = time.perf_counter(), time.process_time()
    count, _ = run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    assert count == expected
    return count / cpu, count / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--urls", type=int, default=2000, help="URLs in a run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each client")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=serve, args=(there,), daemon=True)
    child.start()
    port = here.recv()
    urls = [f"http://127.0.0.1:{port}/{i}" for i in range(arguments.urls)]
    clients: dict[str, Callable[[], tuple[int, int]]] = {
        "urllib, 32 threads": lambda: run_urllib(urls),
        "native, close": lambda: run_native(urls, reuse=False),
        "native, keepalive": lambda: run_native(urls, reuse=True),
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
    try:
        for run in clients.values():  # warm up: imports, the server's caches
            measure(run, len(urls))
        for _ in range(arguments.rounds):
            for name, run in clients.items():
                figures[name].append(measure(run, len(urls)))
    finally:
        child.kill()
        child.join()

    medians = {
        name: (statistics.median(a for a, _ in runs), statistics.median(b for _, b in runs))
        for name, runs in figures.items()
    }
    baseline = medians["urllib, 32 threads"]
    print(f"{len(urls)} URLs, mean {MEAN_BYTES} bytes, {CONNECTIONS} connections, {arguments.rounds} rounds")
    print(f"Python {platform.python_version()}, {platform.machine()}, medians of interleaved rounds\n")
    print(f"{'client':<20}{'per CPU s':>12}{'ratio':>8}{'per wall s':>12}{'ratio':>8}")
    for name, (cpu, wall) in medians.items():
        print(f"{name:<20}{cpu:>12.0f}{cpu / baseline[0]:>8.2f}{wall:>12.0f}{wall / baseline[1]:>8.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"medians": medians, "rounds": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()

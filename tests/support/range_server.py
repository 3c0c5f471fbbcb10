"""An HTTP server of a folder that knows ranges, and can be slow, hang, cut or change what it sends."""

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.loopback import QuietHandler, serving

Judge = Callable[[str, int], str]
"""(path, number of the request for it) -> what goes wrong: `hang`, `cut`, `spoil`, `refuse`, or nothing."""


@dataclass
class RangeServer:
    """What the server does.

    Attributes:
        url: of the folder.
        delay: seconds before each answer.
        judge: decides for each request.
        asked: requests by path.
        sent: bytes of bodies by path.
    """

    folder: Path
    url: str = ""
    delay: float = 0.0
    judge: Judge = lambda _path, _number: ""
    asked: "Counter[str]" = field(default_factory=Counter)
    sent: "Counter[str]" = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)


class _Handler(QuietHandler):
    about: RangeServer

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.about.asked[path] += 1
        outcome = self.about.judge(path, self.about.asked[path])
        if outcome == "hang":
            self.about.over.wait(20)
            self.close_connection = True
            return
        time.sleep(self.about.delay)
        file = self.about.folder / path
        if outcome == "refuse" or not file.is_file():
            self.send_response(503 if outcome == "refuse" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = file.read_bytes()
        status, wanted = 200, self.headers.get("Range")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            size = len(data)
            data = data[int(first) : int(last) + 1 if last else size]
            status = 206
        self.send_response(status)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if outcome == "spoil":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if outcome == "cut":
            data = data[: len(data) // 2]
            self.close_connection = True
        self.about.sent[path] += len(data)
        self.wfile.write(data)


@contextmanager
def range_server(folder: Path) -> Iterator[RangeServer]:
    """Serve a folder on loopback while the block runs."""
    about = RangeServer(folder)
    with serving(functools.partial(_Handler, about)) as about.url:
        try:
            yield about
        finally:
            about.over.set()

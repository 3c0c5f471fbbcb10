"""A mirror on loopback whose files have versions: it knows HEAD, Range, If-Range, ETag, Last-Modified, and fails."""

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from support.loopback import QuietHandler, serving

Fault = Callable[[str, int], str]
"""(path, number of its GET) -> `cut`, `wait 0`, `503`, `403`, `lie` (a range of another version)."""


@dataclass
class Mirror:
    """What is served, and what was asked.

    Attributes:
        files: path to bytes; a test may replace them.
        fault: decides for each GET.
        etags, dates, ranges: whether the server has them.
        asked: (method, path, Range header) of every request.
    """

    files: dict[str, bytes]
    url: str = ""
    fault: Fault = lambda _path, _number: ""
    etags: bool = True
    dates: bool = True
    ranges: bool = True
    head: bool = True
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    sent: "Counter[str]" = field(default_factory=Counter)

    def gets(self, path: str) -> list[str]:
        """Return the Range headers of the GET requests for a path, "" for none."""
        return [span for method, asked, span in self.asked if method == "GET" and asked == path]


class _Handler(QuietHandler):
    about: Mirror

    def do_GET(self) -> None:
        mirror, path = self.about, self.path.lstrip("/")
        mirror.asked.append((self.command, path, self.headers.get("Range", "")))
        fault = mirror.fault(path, len(mirror.gets(path))) if self.command == "GET" else ""
        data = mirror.files.get(path)
        if self.command == "HEAD" and not mirror.head:
            return self._empty(405)
        if data is None:
            return self._empty(404)
        if fault.isdigit():
            return self._empty(int(fault))
        if fault.startswith("wait"):
            return self._empty(503, {"Retry-After": fault.partition(" ")[2]})
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        date = f"Wed, 01 May 2024 00:00:{len(data) % 60:02d} GMT"
        size, start, status = len(data), 0, 200
        span, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if span and mirror.ranges and (fault == "lie" or condition in (None, etag, date)):
            start, status = int(span.removeprefix("bytes=").partition("-")[0]), 206
            if start >= size:
                return self._empty(416)
        self.send_response(status)
        if mirror.etags:
            self.send_header("ETag", etag)
        if mirror.dates:
            self.send_header("Last-Modified", date)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        body = data[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return None
        if fault == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        mirror.sent[path] += len(body)
        with suppress(OSError):  # a client that was stopped
            self.wfile.write(body)
        return None

    def _empty(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def mirror_of(files: dict[str, bytes]) -> Iterator[Mirror]:
    """Serve files on loopback while the block runs."""
    mirror = Mirror(files)
    with serving(functools.partial(_Handler, mirror)) as address:
        mirror.url = f"{address}/"
        yield mirror

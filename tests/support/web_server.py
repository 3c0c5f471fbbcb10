"""A loopback web server whose pages misbehave on demand."""

import contextlib
import http.server
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

Page = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Looks a page up by (host, path), by path, or by its first segment; counts what it serves."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "WebServer"

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def do_GET(self) -> None:
        web = self.server
        host = self.headers.get("Host", "").partition(":")[0]
        path = self.path.partition("?")[0]
        with web.lock:
            web.requests.append((host, self.path))
            web.headers.append(dict(self.headers.items()))
            web.active[host] += 1
            web.peak[host] = max(web.peak[host], web.active[host])
        try:
            segment = "/" + path.split("/")[1]
            page = web.pages.get(host + path) or web.pages.get(path) or web.pages.get(segment)
            if page is None:
                self.reply(404, b"not here")
            else:
                page(self)
        except OSError:
            self.close_connection = True
        finally:
            with web.lock:
                web.active[host] -= 1

    def reply(self, status: int, body: bytes = b"", **fields: str) -> None:
        """A whole answer; `fields` are header fields with _ for -."""
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in fields:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.wfile.flush()
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()


class WebServer(http.server.ThreadingHTTPServer):
    """Pages by path; `halt` is set when the test is over, for pages that wait."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.halt = threading.Event()
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.active: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.connections = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The URL of a path on this server, under any name that leads to it."""
        return f"http://{host}:{self.server_port}{path}"

    def asked(self, path: str) -> int:
        """How often a path was requested."""
        return sum(1 for _, asked in self.requests if asked == path)


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A running server; 404 for everything until pages are set."""
    server = WebServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.halt.set()
    server.shutdown()
    server.server_close()
    thread.join()

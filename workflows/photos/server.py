"""Serve bodies by host and path on loopback, like a picture server."""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Body:
    """The response of a path, with status 200."""

    content: bytes
    content_type: str


Pages = Mapping[tuple[str, str], Body]
"""The response per (host without port, path with query)."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").partition(":")[0]
        body = self.server.pages.get((host, self.path))
        self.send_response(200 if body else 404)
        content = body.content if body else b""
        if body:
            self.send_header("Content-Type", body.content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.pages: Pages = {}


class LoopbackWeb:
    """A port of this machine. Names below `.localhost` resolve to it (RFC 6761, section 6.3).

    Attributes:
        port: where it listens.
        pages: what it serves; 404 for the rest.
    """

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.port: int = server.server_port

    def serve(self, pages: Pages) -> None:
        """Serves these pages from now on."""
        self._server.pages = pages


@contextmanager
def loopback_web(port: int = 0) -> Iterator[LoopbackWeb]:
    """Run a server during the block; port 0 uses a free one."""
    with _Server(port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield LoopbackWeb(server)
        finally:
            server.shutdown()
            thread.join()

"""Serve HTTP on loopback from a thread, on a free port."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that logs nothing and answers HEAD as GET; `about` is what the server was started with."""

    protocol_version = "HTTP/1.1"

    def __init__(self, about: Any, *arguments: Any) -> None:
        self.about = about
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_HEAD(self) -> None:
        """Answer as to GET; `do_GET` leaves out the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer a request."""
        raise NotImplementedError


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve while the block runs; yield the address without a closing slash."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients may go away
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()

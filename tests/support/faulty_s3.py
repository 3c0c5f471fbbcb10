"""An S3 server in this process that refuses, cuts, delays and hides on demand: moto's, behind a thin WSGI layer."""

import re
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.s3_server import BUCKET, credentials

Judge = Callable[[str, str], "int | str | None"]
"""(method, key) -> a status to answer with, `cut`, `slow`, or None to serve the request."""

_CONTENTS = re.compile(rb"<Contents>.*?</Contents>", re.DOTALL)
_KEY = re.compile(rb"<Key>(.*?)</Key>", re.DOTALL)
_CODES = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown", 507: "InsufficientStorage"}
_SLOW_S = 0.2


def _served(_method: str, _key: str) -> None:
    return None


@dataclass
class Faults:
    """What the server does wrong.

    Attributes:
        judge: decides for each request of an object or a list.
        hidden: whether lists leave an object out, by its key.
        asked: requests by method and outcome.
    """

    environment: dict[str, str]
    judge: Judge = _served
    hidden: Callable[[str], bool] = lambda _key: False
    asked: "Counter[tuple[str, str]]" = field(default_factory=Counter)

    def first(self, times: int, outcome: int | str, method: str = "") -> None:
        """Let the next requests of a method, or of any, go wrong."""
        left = [times]

        def judge(asked: str, _key: str) -> int | str | None:
            if method not in ("", asked) or left[0] == 0:
                return None
            left[0] -= 1
            return outcome

        self.judge = judge

    def answer(self) -> None:
        """Serve everything."""
        self.judge, self.hidden = _served, lambda _key: False


class _Layer:
    def __init__(self, served: Any, faults: Faults) -> None:
        self._served = served
        self._faults = faults

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], urllib.parse.unquote(environ["PATH_INFO"]).lstrip("/")
        key = path.partition("/")[2]
        outcome = self._faults.judge(method, key) if path.startswith(BUCKET) else None
        self._faults.asked[method, str(outcome or "served")] += 1
        if isinstance(outcome, int):
            return _refusal(environ, start, outcome)
        if outcome == "slow":
            time.sleep(_SLOW_S)
        if outcome == "cut" and method == "PUT":
            environ["werkzeug.socket"].shutdown(2)
            return []
        body = b"".join(self._served(environ, start))
        if outcome == "cut":
            return _cut(body, environ["werkzeug.socket"])
        if method == "GET" and not key:
            # The length that was announced stays: blanks after the end of XML mean nothing.
            return [_CONTENTS.sub(self._shown, body).ljust(len(body))]
        return [body]

    def _shown(self, entry: "re.Match[bytes]") -> bytes:
        key = _KEY.search(entry[0])
        return b"" if key is not None and self._faults.hidden(urllib.parse.unquote(key[1].decode())) else entry[0]


def _refusal(environ: dict[str, Any], start: Any, status: int) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    code = _CODES[status]
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}, said the store</Message></Error>".encode()
    start(f"{status} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def _cut(body: bytes, socket: Any) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    socket.shutdown(2)


@contextmanager
def faulty_s3() -> Iterator[Faults]:
    """Run a server with one bucket; yield its faults, none at first."""
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import ThreadedWSGIServer, make_server

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    faults = Faults(credentials(port))
    made = server._server
    assert isinstance(made, ThreadedWSGIServer), make_server
    made.app = _Layer(made.app, faults)
    try:
        import urllib.request

        request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        yield faults
    finally:
        server.stop()

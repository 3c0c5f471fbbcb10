"""A web of loopback hosts whose pages are pictures, and what the tests of fetch share."""

import hashlib
import http.server
import threading
import time
from pathlib import Path

from support.pictures import picture

from openwit.pipeline.stages.fetch.settings import FetchSettings

HOSTS_OF_WEB = [f"h{n}.localhost" for n in range(6)]


class Pictures(http.server.BaseHTTPRequestHandler):
    """/N.jpg is picture N, unless the server has another body for the path, or another status for path or host."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        host = self.headers["Host"].partition(":")[0]
        self.server.asked.append((host, self.path))
        time.sleep(self.server.delay)
        status = self.server.statuses.get(self.path) or self.server.statuses.get(host) or 200
        name = self.path[1:].partition(".")[0]
        if not name.isdigit():
            status = 404
        body = (self.server.bodies.get(self.path) or picture(int(name))) if status == 200 else b""
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://{self.server.redirect_to}:{self.server.server_port}{self.path}")
        for header, value in self.server.headers.get(self.path, {}).items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512


class Web:
    """A port of this machine, silent until `start`."""

    def __init__(self):
        self.statuses, self.asked, self.delay, self.redirect_to = {}, [], 0.0, ""
        self.bodies, self.headers = {}, {}
        self.server = None
        self.server = self._make(0)
        self.port = self.server.server_port
        self.server.server_close()
        self.server = None

    def _make(self, port):
        server = Server(("127.0.0.1", port), Pictures)
        server.statuses, server.asked, server.delay = self.statuses, self.asked, self.delay
        server.bodies, server.headers = self.bodies, self.headers
        server.redirect_to, server.daemon_threads = self.redirect_to, True
        return server

    def start(self):
        self.server = self._make(self.port)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self):
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def url(self, host, n):
        return f"http://{host}:{self.port}/{n}.jpg"


def settings(**changes):
    download = {
        "allow_networks": ("127.0.0.0/8",),
        "retries": 0,
        "timeout_s": 5.0,
        "connect_timeout_s": 2.0,
        "max_backoff_s": 0.1,
        **changes.pop("download", {}),
    }
    chunk = changes.get("chunk", 30)
    base = {"chunk": chunk, "task": chunk, "outage_pause_s": 0.01, "image": {"size": 64}, **changes}
    return FetchSettings(download=download, **base)


def spread_over_hosts(web, n=30, hosts=HOSTS_OF_WEB, first=0):
    return [web.url(hosts[i % len(hosts)], first + i) for i in range(n)]


def tables(folder: Path, kind: str, schema) -> list[dict]:
    return [row for path in sorted((folder / kind).glob("*.parquet")) for row in schema.read(path).to_pylist()]


def sums(folder: Path, *kinds: str) -> dict[str, str]:
    paths = [path for kind in kinds for path in sorted((folder / kind).rglob("*"))]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths if p.is_file()}

"""An S3 server on loopback, in a process of its own: moto's."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

BUCKET = "bucket"
SERVE = """
import sys, threading, time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
delay = float(sys.argv[2])
if delay:
    server.get_host_and_port()
    served = server._server.app
    def slow(environ, start):
        time.sleep(delay)
        return served(environ, start)
    server._server.app = slow
print("up", flush=True)
sys.stdin.read()
"""


def credentials(port: int) -> dict[str, str]:
    """Return the environment with which S3 libraries use the server."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }


@contextlib.contextmanager
def s3_server(delay: float = 0.0) -> Iterator[dict[str, str]]:
    """Run a server with one bucket, that waits before each answer; yield the environment for its clients."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = credentials(port)
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port), str(delay)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **environment},
    ) as server:  # fmt: skip
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        until = time.monotonic() + 30
        while True:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
            try:
                urllib.request.urlopen(request, timeout=5).close()
                break
            except urllib.error.URLError:
                assert time.monotonic() < until
                time.sleep(0.1)
        yield environment
        server.kill()

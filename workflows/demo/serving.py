"""Run the server in a child process while a block of code runs."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import openwit
from openwit.schemas.common.errors import NetworkError
from openwit.workflows.demo.server import serve

# Where `openwit` is imported from.
_ROOT = Path(openwit.__file__).parents[1]
_LISTENING = "listening on port "
_SECONDS_TO_STOP = 5


@contextmanager
def serving(web: Path, port: int) -> Iterator[int]:
    """Serve a finished web in a child process during the block; yield the port (a free one for port 0).

    The child also ends when this process dies in whatever way: it reads from a pipe that only this process holds.

    Raises:
        NetworkError: the port is in use, or `web` holds no finished web.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "openwit.workflows.demo",
        "serve",
        "--web",
        str(web.resolve()),
        "--port",
        str(port),
        "--piped",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")])),
    }
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        line = child.stdout.readline()
        if not line.startswith(_LISTENING):
            child.stdin.close()
            message = child.stderr.read().strip()
            raise NetworkError(message.splitlines()[-1] if message else f"the server of {web} did not start")
        threading.Thread(target=_drain, args=(child.stderr,), daemon=True).start()
        yield int(line.removeprefix(_LISTENING))
    finally:
        with contextlib.suppress(OSError):
            child.stdin.close()
        try:
            child.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def _drain(stream: IO[str]) -> None:
    """Read and print the server's error output to its end, so that a full pipe never blocks it."""
    for line in stream:
        print(line, end="", file=sys.stderr)


def run_server(web: Path, port: int, piped: bool) -> None:
    """Serve until interrupted, or, when piped, until standard input ends.

    Raises:
        NetworkError: the port is in use, or `web` holds no finished web.
    """
    asyncio.run(_run(web, port, piped))


async def _run(web: Path, port: int, piped: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(name, stop.set)

    def announce(bound: int) -> None:
        if piped:
            print(f"{_LISTENING}{bound}", flush=True)
            threading.Thread(target=_await_end_of_input, args=(loop, stop), daemon=True).start()
        else:
            print(f"The little web is at http://localhost:{bound}/ - stop it with Ctrl-C.", flush=True)

    await serve(web, port, announce, stop)


def _await_end_of_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    with contextlib.suppress(RuntimeError):  # the loop may be closed already
        loop.call_soon_threadsafe(stop.set)

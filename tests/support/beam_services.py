"""Beam's Python job service and a pool of workers, in processes in another folder."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

BEAMS_POOL = ("apache_beam.runners.worker.worker_pool_main", "--service_port")
OUR_POOL = ("openwit.pipeline", "workers", "--port")


class Services(NamedTuple):
    """Addresses of a job service and of a worker pool, and their processes, each the leader of a session."""

    job: str
    pool: str
    job_process: int
    pool_process: int


def free_port() -> int:
    """Return a port where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def beam_services(folder: Path, pool_command: Sequence[str] = BEAMS_POOL) -> Iterator[Services]:
    """Run them in a folder, from when both answer.

    Args:
        pool_command: module of the pool and its arguments; a port follows.
    """
    job, pool = free_port(), free_port()
    # Beam's pool starts a program called `python`.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path)), "PATH": path}
    commands = [
        ["apache_beam.runners.portability.local_job_service_main", "--port", str(job)],
        [*pool_command, str(pool)],
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )
        for command in commands
    ]  # fmt: skip
    try:
        for port in (job, pool):
            until = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < until
                    time.sleep(0.2)
        yield Services(f"localhost:{job}", f"localhost:{pool}", *(process.pid for process in processes))
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

"""Builds on Beam's Python job service whose workers are processes in another folder."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.trees import dataset_tree

from openwit.pipeline.build import build
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job

pytestmark = pytest.mark.engines


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """Addresses of a job service and of a worker pool."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    job, pool = free_port(), free_port()
    # The pool starts a program called `python`.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path)), "PATH": path}
    commands = [
        ["apache_beam.runners.portability.local_job_service_main", "--port", str(job)],
        ["apache_beam.runners.worker.worker_pool_main", "--service_port", str(pool)],
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *command], cwd=elsewhere, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )
        for command in commands
    ]  # fmt: skip
    for port in (job, pool):
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.2)
    yield f"localhost:{job}", f"localhost:{pool}"
    for process in processes:
        os.killpg(process.pid, 9)
        process.wait()


def test_a_build_has_the_same_bytes(services, small, tmp_path):
    recipe, expected = small
    job, pool = services
    flags = ["--environment_type=EXTERNAL", f"--environment_config={pool}"]
    engine = make_engine("portable", "auto", flags, cluster=job)
    engine.check()
    build(recipe, tmp_path / "w", Job(engine))
    assert dataset_tree(tmp_path / "w" / "dataset") == expected

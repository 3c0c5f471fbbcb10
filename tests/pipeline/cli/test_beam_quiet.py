"""Commands that import Beam print their own sentences and nothing of its."""

import logging
import os
import socket
import subprocess
import sys

import pytest

from openwit.pipeline.cli.progress import ConsoleMessages
from openwit.schemas.common.command import make_console


def test_a_port_that_is_taken_is_all_that_is_printed():
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "openwit.pipeline", "workers", "--port", port],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    assert done.returncode == 2
    assert "apitools" not in done.stderr + done.stdout
    assert [line for line in done.stderr.splitlines() if line.startswith(("E0", "WARNING", "Traceback"))] == []
    assert f"--port {port}: cannot be used" in done.stderr


@pytest.mark.parametrize(
    ("path", "text", "shown"),
    [
        ("/site/apache_beam/runners/worker_handlers.py", "Error\nTraceback (most recent call last):\n  x", False),
        ("/site/apache_beam/runners/worker_handlers.py", "the quota is used up", True),
        ("/site/other/module.py", "Error\nTraceback (most recent call last):\n  x", True),
    ],
)
def test_tracebacks_that_beam_logs_are_not_shown(path, text, shown, capsys):
    record = logging.LogRecord("root", logging.ERROR, path, 1, text, None, None)
    ConsoleMessages(make_console()).emit(record)
    assert bool(capsys.readouterr().err) is shown

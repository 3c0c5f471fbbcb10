"""What is compiled ahead is not compiled again."""

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_fresh_process_compiles_nothing(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_CPU_NAME": "x86-64-v3",
        "NUMBA_CPU_FEATURES": "",
    }
    said = []
    for _ in range(2):
        command = [sys.executable, "-m", "openwit.pipeline.check.compile_ahead"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout.split())
    assert int(said[0][0]) > 10
    assert said[1][0] == "0"
    assert int(said[1][2]) > 0

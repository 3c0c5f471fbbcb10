"""A full standard output is no full disk."""

import subprocess
import sys

import pytest

PROGRAM = """
import typer
from openwit.schemas.common.command import run_app
app = typer.Typer()
@app.command()
def say():
    print("a word")
run_app(app, "say", arguments=[])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_a_full_output_is_named_and_ends_with_2():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", PROGRAM], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "say: the standard output cannot be written: No space left on device\n"
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a word\n", "")

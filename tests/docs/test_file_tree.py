"""The page with one line per file is made from the code, and current."""

import subprocess
import sys

from support.doc_pages import ROOT


def test_every_file_has_its_line() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "file_tree.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

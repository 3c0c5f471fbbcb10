"""The commands and the Python of the documentation run, page by page, in a folder that holds what the pages name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.doc_pages import ROOT, Block, blocks, pages
from support.pictures import picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

RUN = [page for page in pages() if any(_.not_run is None for _ in blocks(page) if _.language in ("sh", "python"))]
NEVER = ("make ", "pip ", "git ", "tensorboard ", "mkdocs ", "pre-commit ")
"""Commands that set up a checkout or do not end; test_commands.py checks their targets and extras."""


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `wit`, `wit-train` and `python`, which run this very package."""
    folder = tmp_path_factory.mktemp("bin")
    for name, module in (("wit", "openwit.pipeline"), ("wit-train", "openwit.training")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        script.chmod(0o755)
    (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "python").chmod(0o755)
    return folder


def call(command: str, folder: Path, commands: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "COLUMNS": "120"}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Path:
    """What the pages take for granted: a small demo with its run, tables, lists, a recipe and a configuration."""
    folder = tmp_path_factory.mktemp("workplace")
    done = call("wit demo --out out/demo --concepts 30 --port 0", folder, commands)
    # With so few pictures the model need not beat chance by the demo's factor: 1 is its verdict, not a failure.
    assert done.returncode in (0, 1), f"{done.stdout}{done.stderr}"
    assert "PASSED" in done.stdout or "FAILED" in done.stdout, f"{done.stdout}{done.stderr}"
    texts = [f"a red kite over the hill {number}" for number in range(40)]
    table = pa.table({"image": [picture(number) for number in range(40)], "text": texts})
    pq.write_table(table, folder / "my_pairs.parquet")
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    shown = {"image": [picture(number, (32, 32)) for number in range(30)], "label": [*classes] * 3}
    shown["split"] = ["train"] * 20 + ["test"] * 10
    pq.write_table(pa.table(shown), folder / "cifar10.parquet")
    (folder / "opted-out.txt").write_text("clipart.localhost\n")
    (folder / "words.txt").write_text("red kite\nhill\n")
    (folder / "captions.csv").write_text("uid,text\nu0,A red kite\nu1,two wrens\n")
    shutil.copytree(ROOT / "docs" / "examples", folder / "docs" / "examples")
    for command in ("wit init demo", "cp demo/recipe.yaml recipe.yaml", "cp demo/train.yaml train.yaml"):
        done = call(command, folder, commands)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return folder


def run_python(pieces: list[Block], folder: Path, commands: Path) -> None:
    """Runs the Python of a page as one program."""
    program = "".join(f"# {block}\n{block.text}\n" for block in pieces)
    (folder / "page.py").write_text(program)
    done = call("python page.py", folder, commands)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{program}"


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_the_page_shows_runs(page: Path, workplace: Path, commands: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    subprocess.run(["cp", "-a", str(workplace), str(folder)], check=True)
    shown = [block for block in blocks(page) if block.not_run is None]
    for block in shown:
        if block.language != "sh":
            continue
        for command in block.commands():
            if command.startswith(NEVER):
                continue
            done = call(command, folder, commands)
            assert done.returncode == 0, f"{block}: {command}\n{done.stdout}{done.stderr}"
    pieces = [block for block in shown if block.language == "python"]
    if pieces:
        run_python(pieces, folder, commands)

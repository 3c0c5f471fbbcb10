"""The benchmark for a GPU, rehearsed on the CPU."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_part_fits_into_three_minutes_but_for_short_items(gpu: ModuleType) -> None:
    names = [item.name for item in gpu.ITEMS]
    assert len(set(names)) == len(names)
    assert [item.part for item in gpu.ITEMS] == sorted(item.part for item in gpu.ITEMS)
    assert gpu.PART_SECONDS < 180
    for part in {1, 2, 3, 4, 6, 7}:
        assert sum(item.seconds for item in gpu.ITEMS if item.part == part) <= gpu.PART_SECONDS


def test_an_item_that_hangs_or_dies_leaves_the_others(gpu: ModuleType, tmp_path: Path) -> None:
    for work, words in ((["sleep", "60"], "longer than"), ([sys.executable, "-c", "1/0"], "died")):
        child = subprocess.Popen(work, start_new_session=True, stderr=subprocess.DEVNULL).pid
        found = gpu.ended(child, tmp_path / "none", 0.3 if work[0] == "sleep" else 20)
        assert found["status"] == "failed"
        assert words in found["error"]


@pytest.mark.slow
def test_every_item_runs_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "--rehearse", "--json", str(out)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    items = json.loads(out.read_text())["items"]
    assert {found["status"] for found in items.values()} == {"ok"}
    assert items["gradients of chunks"]["error_fp32"] < 1e-4

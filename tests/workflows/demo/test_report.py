"""The pages' figures come from a run, and from nowhere else."""

import json
from pathlib import Path

import pytest

from openwit.schemas.common.errors import DataError
from openwit.schemas.manifest import DatasetManifest, FunnelStep
from openwit.workflows.demo.report import RECORD, DemoResult, render, update

ROOT = Path(__file__).parents[3]


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    step = FunnelStep(
        stage="fetch", unit="images", rows_in=1200, rows_out=1190, reasons={"stalled": 3, "http_gone": 7}
    )
    manifest = DatasetManifest(
        name="birds", recipe={}, tools={}, funnel=[step], notes={}, tables=[], shards=[], description=""
    )
    manifest.save(tmp_path / "dataset")
    at = {k: {"k": k, "value": 0.25, "low": 0.2, "high": 0.3, "chance": k / 500} for k in (1, 10)}
    recall = {direction: {"strict": list(at.values())} for direction in ("text_to_image", "image_to_text")}
    for split in ("val", "test"):
        folder = tmp_path / f"retrieval-{split}"
        folder.mkdir()
        (folder / "retrieval.json").write_text(json.dumps({"images": 512, "recall": recall}))
    seconds = {"build": 60, "train": 120}
    record = {"seconds": seconds, "date": "2026-01-02", "cores": 2, "load": 9.5, "python": "3.11.7", "torch": "2.13.0"}
    (tmp_path / RECORD).write_text(json.dumps(record))
    return tmp_path


def test_a_page_gets_its_figures_from_the_run(demo: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marks = "<!-- demo: conditions -->\nold\n<!-- /demo -->\n<!-- demo: funnel -->\n<!-- /demo -->\n"
    page.write_text(f"Before\n{marks}After\n")
    assert update(page, DemoResult.load(demo))
    text = page.read_text()
    assert "2 cores, shared with other work (load 9.5), Python" in text
    assert "3.0 minutes after installation (build 1.0, train 2.0)" in text
    assert "| fetch | images | 1,200 | 1,190 | `http_gone` 7, `stalled` 3 |" in text
    assert "old" not in text
    assert text.startswith("Before\n")
    assert text.endswith("After\n")
    assert not update(page, DemoResult.load(demo)), "the same run renders the same page"


def test_recall_is_told_with_its_interval_and_chance(demo: Path) -> None:
    table = render("<!-- demo: recall -->\n<!-- /demo -->", DemoResult.load(demo))
    assert "| known sites, 512 | text to image | 25.0% (20.0–30.0) | 25.0% (20.0–30.0) | 0.20%, 2.00% |" in table


def test_a_mark_that_names_nothing_is_an_error(demo: Path) -> None:
    with pytest.raises(DataError, match="'weather'"):
        render("<!-- demo: weather -->\n<!-- /demo -->", DemoResult.load(demo))


def test_an_unfinished_demo_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished demo"):
        DemoResult.load(tmp_path)


@pytest.mark.parametrize("page", ["README.md", "docs/demo.md"])
def test_the_pages_hold_marks(page: str) -> None:
    assert "<!-- demo: recall -->" in (ROOT / page).read_text()
